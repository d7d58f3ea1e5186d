//! The machine: a stack, marks, a memo, and one function per type of instruction.

use std::collections::HashMap;
use std::rc::Rc;

use super::{Error, Global, Heap, Loaded, Storage, Value, View};

/// How much of a rejected name a message repeats, in characters.
const MAX_SHOWN: usize = 100;
/// What torch allows; without a limit, many tensors of one long shape would need memory beyond the length of the input.
const MAX_DIMENSIONS: usize = 64;

pub struct Machine<'a> {
    bytes: &'a [u8],
    /// Position of the next byte.
    at: usize,
    /// Position of the current instruction, for messages.
    instruction: usize,
    stack: Vec<Value>,
    /// Stack heights where marks lie.
    marks: Vec<usize>,
    /// A map, because a pickle may number its entries as it likes.
    memo: HashMap<u32, Value>,
    heap: Heap,
}

/// Protocol 2, with the framing and short forms of later protocols.
mod opcode {
    pub const MARK: u8 = b'(';
    pub const STOP: u8 = b'.';
    pub const POP: u8 = b'0';
    pub const BININT: u8 = b'J';
    pub const BININT1: u8 = b'K';
    pub const BININT2: u8 = b'M';
    pub const NONE: u8 = b'N';
    pub const BINPERSID: u8 = b'Q';
    pub const REDUCE: u8 = b'R';
    pub const BINUNICODE: u8 = b'X';
    pub const EMPTY_LIST: u8 = b']';
    pub const APPEND: u8 = b'a';
    pub const APPENDS: u8 = b'e';
    pub const BUILD: u8 = b'b';
    pub const GLOBAL: u8 = b'c';
    pub const EMPTY_DICT: u8 = b'}';
    pub const BINGET: u8 = b'h';
    pub const LONG_BINGET: u8 = b'j';
    pub const BINPUT: u8 = b'q';
    pub const LONG_BINPUT: u8 = b'r';
    pub const SETITEM: u8 = b's';
    pub const TUPLE: u8 = b't';
    pub const EMPTY_TUPLE: u8 = b')';
    pub const SETITEMS: u8 = b'u';
    pub const BINFLOAT: u8 = b'G';
    pub const PROTO: u8 = 0x80;
    pub const TUPLE1: u8 = 0x85;
    pub const TUPLE2: u8 = 0x86;
    pub const TUPLE3: u8 = 0x87;
    pub const NEWTRUE: u8 = 0x88;
    pub const NEWFALSE: u8 = 0x89;
    pub const LONG1: u8 = 0x8a;
    pub const SHORT_BINUNICODE: u8 = 0x8c;
    pub const BINUNICODE8: u8 = 0x8d;
    pub const STACK_GLOBAL: u8 = 0x93;
    pub const MEMOIZE: u8 = 0x94;
    pub const FRAME: u8 = 0x95;
}

/// Names of the instructions that are rejected, for messages.
fn rejected_name(opcode: u8) -> String {
    let name = match opcode {
        b'i' => "INST",
        b'o' => "OBJ",
        0x81 => "NEWOBJ",
        0x92 => "NEWOBJ_EX",
        0x82..=0x84 => "EXT",
        b'P' => "PERSID",
        b'2' => "DUP",
        b'1' => "POP_MARK",
        b'd' => "DICT",
        b'l' => "LIST",
        0x8b => "LONG4",
        0x8e | b'B' | b'C' => "BINBYTES",
        0x8f => "EMPTY_SET",
        0x91 => "FROZENSET",
        0x96 => "BYTEARRAY8",
        0x97 | 0x98 => "NEXT_BUFFER",
        _ => return format!("0x{opcode:02x}"),
    };
    name.to_owned()
}

impl<'a> Machine<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            instruction: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            heap: Heap::default(),
        }
    }

    /// Runs to the end and returns what was built.
    pub fn run(mut self) -> Result<Loaded, Error> {
        while let Some(opcode) = self.next_opcode()? {
            self.step(opcode)?;
        }
        let root = self.pop()?;
        Ok(Loaded {
            root,
            heap: self.heap,
        })
    }

    /// The next instruction, or nothing at the end of the program.
    fn next_opcode(&mut self) -> Result<Option<u8>, Error> {
        self.instruction = self.at;
        let [opcode] = self.array()?;
        Ok((opcode != opcode::STOP).then_some(opcode))
    }

    fn step(&mut self, opcode: u8) -> Result<(), Error> {
        use opcode::*;
        match opcode {
            PROTO => self.array::<1>().map(drop),
            FRAME => self.array::<8>().map(drop),
            MARK => self.mark(),
            POP => self.pop().map(drop),
            NONE => self.push(Value::None),
            NEWTRUE | NEWFALSE => self.push(Value::Bool),
            BININT | BININT1 | BININT2 | LONG1 | BINFLOAT => self.number(opcode),
            BINUNICODE | SHORT_BINUNICODE | BINUNICODE8 => self.text(opcode),
            EMPTY_TUPLE | TUPLE | TUPLE1 | TUPLE2 | TUPLE3 => self.tuple(opcode),
            EMPTY_LIST => self.new_list(),
            APPEND | APPENDS => self.append(opcode),
            EMPTY_DICT => self.new_dict(),
            SETITEM | SETITEMS => self.set_items(opcode),
            BINPUT | LONG_BINPUT | MEMOIZE => self.put(opcode),
            BINGET | LONG_BINGET => self.get(opcode),
            GLOBAL | STACK_GLOBAL => self.global(opcode),
            BINPERSID => self.storage(),
            REDUCE => self.reduce(),
            BUILD => self.build(),
            _ => Err(Error::Instruction {
                name: rejected_name(opcode),
                at: self.instruction,
            }),
        }
    }

    fn malformed<T>(&self, what: &'static str) -> Result<T, Error> {
        Err(Error::Malformed {
            at: self.instruction,
            what,
        })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let rest = &self.bytes[self.at..];
        let taken = rest
            .get(..length)
            .ok_or(Error::Truncated(self.instruction))?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("take returns the requested length"))
    }

    fn line(&mut self) -> Result<&'a str, Error> {
        let rest = &self.bytes[self.at..];
        let length = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or(Error::Truncated(self.instruction))?;
        let line = self.take(length + 1)?;
        std::str::from_utf8(&line[..length]).or_else(|_| self.malformed("a name is not UTF-8"))
    }

    fn push(&mut self, value: Value) -> Result<(), Error> {
        self.stack.push(value);
        Ok(())
    }

    /// Takes the top value; those below a mark belong to an outer container.
    fn pop(&mut self) -> Result<Value, Error> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return self.malformed("the stack is empty");
        }
        Ok(self
            .stack
            .pop()
            .expect("the stack is higher than its floor"))
    }

    fn mark(&mut self) -> Result<(), Error> {
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, Error> {
        match self.marks.pop() {
            Some(height) => Ok(self.stack.split_off(height)),
            None => self.malformed("there is no mark"),
        }
    }

    fn number(&mut self, opcode: u8) -> Result<(), Error> {
        let value = match opcode {
            opcode::BININT => Value::Int(i32::from_le_bytes(self.array()?).into()),
            opcode::BININT1 => Value::Int(self.array::<1>()?[0].into()),
            opcode::BININT2 => Value::Int(u16::from_le_bytes(self.array()?).into()),
            opcode::BINFLOAT => self.array::<8>().map(|_| Value::Float)?,
            _ => self.long()?,
        };
        self.push(value)
    }

    /// An integer of up to eight bytes, which covers every size that can be addressed.
    fn long(&mut self) -> Result<Value, Error> {
        let [length] = self.array()?;
        let digits = self.take(length.into())?;
        if digits.len() > 8 {
            return self.malformed("an integer is longer than 64 bits");
        }
        let sign = if digits.last().is_some_and(|&byte| byte >= 0x80) {
            0xff
        } else {
            0
        };
        let mut padded = [sign; 8];
        padded[..digits.len()].copy_from_slice(digits);
        Ok(Value::Int(i64::from_le_bytes(padded)))
    }

    fn text(&mut self, opcode: u8) -> Result<(), Error> {
        let length = match opcode {
            opcode::SHORT_BINUNICODE => self.array::<1>()?[0].into(),
            opcode::BINUNICODE => u32::from_le_bytes(self.array()?).into(),
            _ => u64::from_le_bytes(self.array()?),
        };
        let bytes = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        match std::str::from_utf8(bytes) {
            Ok(text) => self.push(Value::Text(text.into())),
            Err(_) => self.malformed("a text is not UTF-8"),
        }
    }

    fn tuple(&mut self, opcode: u8) -> Result<(), Error> {
        let count = match opcode {
            opcode::TUPLE => None,
            opcode::EMPTY_TUPLE => Some(0),
            _ => Some(usize::from(opcode - opcode::TUPLE1) + 1),
        };
        let items = match count {
            None => self.pop_to_mark()?,
            Some(count) => {
                let mut items = (0..count)
                    .map(|_| self.pop())
                    .collect::<Result<Vec<_>, _>>()?;
                items.reverse();
                items
            }
        };
        self.heap.sequences.push(items);
        self.push(Value::Tuple(self.heap.sequences.len() - 1))
    }

    fn new_list(&mut self) -> Result<(), Error> {
        self.heap.sequences.push(Vec::new());
        self.push(Value::List(self.heap.sequences.len() - 1))
    }

    fn append(&mut self, opcode: u8) -> Result<(), Error> {
        let items = if opcode == opcode::APPEND {
            vec![self.pop()?]
        } else {
            self.pop_to_mark()?
        };
        match self.stack.last() {
            Some(&Value::List(list)) => {
                self.heap.sequences[list].extend(items);
                Ok(())
            }
            _ => self.malformed("items are appended to something that is not a list"),
        }
    }

    fn new_dict(&mut self) -> Result<(), Error> {
        self.heap.dicts.push(Vec::new());
        self.push(Value::Dict(self.heap.dicts.len() - 1))
    }

    fn set_items(&mut self, opcode: u8) -> Result<(), Error> {
        let items = if opcode == opcode::SETITEM {
            let value = self.pop()?;
            vec![self.pop()?, value]
        } else {
            self.pop_to_mark()?
        };
        let Some(&Value::Dict(dict)) = self.stack.last() else {
            return self.malformed("items are set in something that is not a dictionary");
        };
        if items.len() % 2 != 0 {
            return self.malformed("a key has no value");
        }
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            self.heap.dicts[dict].push((key, value));
        }
        Ok(())
    }

    fn put(&mut self, opcode: u8) -> Result<(), Error> {
        let index = match opcode {
            opcode::BINPUT => self.array::<1>()?[0].into(),
            opcode::LONG_BINPUT => u32::from_le_bytes(self.array()?),
            _ => self.memo.len() as u32,
        };
        match self.stack.last() {
            Some(value) => {
                self.memo.insert(index, value.clone());
                Ok(())
            }
            None => self.malformed("there is nothing to memoize"),
        }
    }

    fn get(&mut self, opcode: u8) -> Result<(), Error> {
        let index = match opcode {
            opcode::BINGET => self.array::<1>()?[0].into(),
            _ => u32::from_le_bytes(self.array()?),
        };
        match self.memo.get(&index).cloned() {
            Some(value) => self.push(value),
            None => self.malformed("a memo entry is read that was never stored"),
        }
    }

    fn global(&mut self, opcode: u8) -> Result<(), Error> {
        let (module, name): (Rc<str>, Rc<str>) = if opcode == opcode::GLOBAL {
            (self.line()?.into(), self.line()?.into())
        } else {
            match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => (module, name),
                _ => return self.malformed("the name of a global is not text"),
            }
        };
        match Global::find(&module, &name) {
            Some(global) => self.push(Value::Global(global)),
            None => {
                let shown = format!("{module}.{name}")
                    .escape_debug()
                    .take(MAX_SHOWN)
                    .collect();
                Err(Error::Global(shown))
            }
        }
    }

    /// A persistent id: `("storage", class, key, location, number of elements)`. The location is ignored.
    fn storage(&mut self) -> Result<(), Error> {
        const WHAT: &str = "a reference to a storage is not as torch writes it";
        let Value::Tuple(id) = self.pop()? else {
            return self.malformed(WHAT);
        };
        let [
            Value::Text(tag),
            Value::Global(Global::StorageOf(dtype)),
            Value::Text(key),
            Value::Text(_),
            numel,
        ] = self.heap.sequences[id].as_slice()
        else {
            return self.malformed(WHAT);
        };
        match size(numel) {
            Some(numel) if &**tag == "storage" => {
                self.heap.storages.push(Storage {
                    dtype: *dtype,
                    key: key.clone(),
                    numel,
                });
                self.push(Value::Storage(self.heap.storages.len() - 1))
            }
            _ => self.malformed(WHAT),
        }
    }

    fn reduce(&mut self) -> Result<(), Error> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let (Value::Tuple(arguments), Value::Global(callable)) = (arguments, callable) else {
            return self.malformed("something that is not callable is called");
        };
        match (callable, self.heap.sequences[arguments].as_slice()) {
            (Global::OrderedDict, []) => self.new_dict(),
            (Global::RebuildTensor, [storage, offset, shape, strides, ..]) => {
                let Some(view) = self.view(storage, offset, shape, strides) else {
                    return self.malformed("a tensor is not described as torch writes it");
                };
                self.heap.tensors.push(view);
                self.push(Value::Tensor(self.heap.tensors.len() - 1))
            }
            (Global::RebuildParameter, [Value::Tensor(tensor), ..]) => {
                self.push(Value::Tensor(*tensor))
            }
            _ => self.malformed("a function is called with arguments it does not take"),
        }
    }

    fn view(
        &self,
        storage: &Value,
        offset: &Value,
        shape: &Value,
        strides: &Value,
    ) -> Option<View> {
        let Value::Storage(storage) = *storage else {
            return None;
        };
        let sizes = |value: &Value| {
            let Value::Tuple(tuple) = *value else {
                return None;
            };
            let sizes = &self.heap.sequences[tuple];
            (sizes.len() <= MAX_DIMENSIONS)
                .then(|| sizes.iter().map(size).collect::<Option<Vec<_>>>())?
        };
        let (shape, strides) = (sizes(shape)?, sizes(strides)?);
        let storage = self.heap.storages[storage].clone();
        (shape.len() == strides.len()).then_some(View {
            storage,
            offset: size(offset)?,
            shape,
            strides,
        })
    }

    /// Attributes of a state dict are the version numbers of its modules (`_metadata`), which are not needed.
    fn build(&mut self) -> Result<(), Error> {
        self.pop()?;
        match self.stack.last() {
            Some(Value::Dict(_)) => Ok(()),
            _ => Err(Error::Instruction {
                name: "BUILD".into(),
                at: self.instruction,
            }),
        }
    }
}

fn size(value: &Value) -> Option<usize> {
    match *value {
        Value::Int(size) => usize::try_from(size).ok(),
        _ => None,
    }
}

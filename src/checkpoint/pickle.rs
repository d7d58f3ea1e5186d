//! A pickle machine with exactly the instructions that a torch state dict needs.
//!
//! It builds plain values and can execute nothing: a global that is not on the short list below, and every instruction
//! that is not needed, is refused by name. Containers live in an arena and values refer to them by index, so that
//! copying a value costs nothing, cycles are harmless, dropping does not recurse, and memory grows only with the
//! length of the input. Source: reference section 2.1 and Python's `pickletools` for the instruction set.

use std::collections::HashMap;
use std::rc::Rc;

use super::tensor::Dtype;

/// Why a pickle was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("`{0}` is not something a state dict needs; refused, nothing was run")]
    Global(String),
    #[error("instruction `{name}` at byte {at} is not something a state dict needs; refused, nothing was run")]
    Instruction { name: String, at: usize },
    #[error("the pickle ends in the middle of an instruction at byte {0}; the file is truncated or damaged")]
    Truncated(usize),
    #[error("the pickle is damaged at byte {at}: {what}")]
    Malformed { at: usize, what: &'static str },
}

/// A reference to a tensor inside a storage of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub storage: Storage,
    /// In elements, like everything here.
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// A named block of elements of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    pub dtype: Dtype,
    pub key: Rc<str>,
    pub numel: usize,
}

/// A value on the stack; containers and tensors are positions in the [`Heap`].
#[derive(Debug, Clone)]
pub enum Value {
    None,
    Bool,
    Int(i64),
    Float,
    Text(Rc<str>),
    Global(Global),
    Tuple(usize),
    List(usize),
    Dict(usize),
    Storage(usize),
    Tensor(usize),
}

/// The callables and classes that a state dict names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    StorageOf(Dtype),
}

/// Everything a pickle built, and the value it returned.
#[derive(Debug)]
pub struct Loaded {
    pub root: Value,
    pub heap: Heap,
}

/// Owner of containers and tensors.
#[derive(Debug, Default)]
pub struct Heap {
    /// Tuples and lists.
    pub sequences: Vec<Vec<Value>>,
    pub dicts: Vec<Vec<(Value, Value)>>,
    pub storages: Vec<Storage>,
    pub tensors: Vec<View>,
}

/// What torch allows; without a limit, many tensors of one long shape would need memory beyond the length of the input.
const MAX_DIMENSIONS: usize = 64;

/// Runs the pickle.
pub fn load(bytes: &[u8]) -> Result<Loaded, Error> {
    let mut machine = Machine::new(bytes);
    while let Some(opcode) = machine.next_opcode()? {
        machine.step(opcode)?;
    }
    let root = machine.pop()?;
    Ok(Loaded { root, heap: machine.heap })
}

impl Global {
    fn find(module: &str, name: &str) -> Option<Self> {
        let dtype = match (module, name) {
            ("collections", "OrderedDict") => return Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => return Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => return Some(Self::RebuildParameter),
            ("torch", "DoubleStorage") => Dtype::F64,
            ("torch", "FloatStorage") => Dtype::F32,
            ("torch", "HalfStorage") => Dtype::F16,
            ("torch", "BFloat16Storage") => Dtype::Bf16,
            ("torch", "LongStorage") => Dtype::I64,
            ("torch", "IntStorage") => Dtype::I32,
            ("torch", "ShortStorage") => Dtype::I16,
            ("torch", "CharStorage") => Dtype::I8,
            ("torch", "ByteStorage") | ("torch.storage" | "torch", "UntypedStorage") => Dtype::U8,
            ("torch", "BoolStorage") => Dtype::Bool,
            _ => return None,
        };
        Some(Self::StorageOf(dtype))
    }
}

struct Machine<'a> {
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

/// Names of the instructions that are refused, for messages.
fn refused_name(opcode: u8) -> String {
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
    fn new(bytes: &'a [u8]) -> Self {
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
            _ => Err(Error::Instruction { name: refused_name(opcode), at: self.instruction }),
        }
    }

    fn malformed<T>(&self, what: &'static str) -> Result<T, Error> {
        Err(Error::Malformed { at: self.instruction, what })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..length).ok_or(Error::Truncated(self.instruction))?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("take returns the length asked for"))
    }

    fn line(&mut self) -> Result<&'a str, Error> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or(Error::Truncated(self.instruction))?;
        let line = self.take(length + 1)?;
        std::str::from_utf8(&line[..length]).or_else(|_| self.malformed("a name is not UTF-8"))
    }

    fn push(&mut self, value: Value) -> Result<(), Error> {
        self.stack.push(value);
        Ok(())
    }

    /// Takes the top value; those below a mark belong to somebody else.
    fn pop(&mut self) -> Result<Value, Error> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return self.malformed("the stack is empty");
        }
        Ok(self.stack.pop().expect("the stack is higher than its floor"))
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
        let sign = if digits.last().is_some_and(|&byte| byte >= 0x80) { 0xff } else { 0 };
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
                let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
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
        let items = if opcode == opcode::APPEND { vec![self.pop()?] } else { self.pop_to_mark()? };
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
            None => self.malformed("there is nothing to remember"),
        }
    }

    fn get(&mut self, opcode: u8) -> Result<(), Error> {
        let index = match opcode {
            opcode::BINGET => self.array::<1>()?[0].into(),
            _ => u32::from_le_bytes(self.array()?),
        };
        match self.memo.get(&index).cloned() {
            Some(value) => self.push(value),
            None => self.malformed("an entry is recalled that was never remembered"),
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
            None => Err(Error::Global(format!("{module}.{name}"))),
        }
    }

    /// A persistent id: `("storage", class, key, location, number of elements)`. Where it lay does not matter.
    fn storage(&mut self) -> Result<(), Error> {
        const WHAT: &str = "a reference to a storage is not as torch writes it";
        let Value::Tuple(id) = self.pop()? else { return self.malformed(WHAT) };
        let [Value::Text(tag), Value::Global(Global::StorageOf(dtype)), Value::Text(key), Value::Text(_), numel] =
            self.heap.sequences[id].as_slice()
        else {
            return self.malformed(WHAT);
        };
        match size(numel) {
            Some(numel) if &**tag == "storage" => {
                self.heap.storages.push(Storage { dtype: *dtype, key: key.clone(), numel });
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
            (Global::RebuildParameter, [Value::Tensor(tensor), ..]) => self.push(Value::Tensor(*tensor)),
            _ => self.malformed("a function is called with arguments it does not take"),
        }
    }

    fn view(&self, storage: &Value, offset: &Value, shape: &Value, strides: &Value) -> Option<View> {
        let Value::Storage(storage) = *storage else { return None };
        let sizes = |value: &Value| {
            let Value::Tuple(tuple) = *value else { return None };
            let sizes = &self.heap.sequences[tuple];
            (sizes.len() <= MAX_DIMENSIONS).then(|| sizes.iter().map(size).collect::<Option<Vec<_>>>())?
        };
        let (shape, strides) = (sizes(shape)?, sizes(strides)?);
        let storage = self.heap.storages[storage].clone();
        (shape.len() == strides.len()).then_some(View { storage, offset: size(offset)?, shape, strides })
    }

    /// Attributes of a state dict are the version numbers of its modules (`_metadata`), which nobody needs.
    fn build(&mut self) -> Result<(), Error> {
        self.pop()?;
        match self.stack.last() {
            Some(Value::Dict(_)) => Ok(()),
            _ => Err(Error::Instruction { name: "BUILD".into(), at: self.instruction }),
        }
    }
}

fn size(value: &Value) -> Option<usize> {
    match *value {
        Value::Int(size) => usize::try_from(size).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(bytes: &[u8]) -> String {
        load(bytes).unwrap_err().to_string()
    }

    #[test]
    fn code_is_refused_by_name() {
        assert_eq!(
            error(b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R."),
            "`posix.system` is not something a state dict needs; refused, nothing was run"
        );
        assert!(error(b"cbuiltins\neval\n.").contains("`builtins.eval`"));
        assert!(error(b"\x80\x04\x8c\x02os\x8c\x06system\x93.").contains("`os.system`"));
        assert!(error(b"(S'x'\nios\nsystem\n.").contains("0x53"));
        assert!(error(b"(ios\nsystem\n.").contains("INST"));
        assert!(error(b"(ccollections\nOrderedDict\no.").contains("OBJ"));
        assert!(error(b"\x82\x01.").contains("EXT"));
        assert!(error(b"ccollections\nOrderedDict\n)\x81.").contains("NEWOBJ"));
        assert!(error(b"ctorch\nFloatStorage\n}b.").contains("BUILD"));
    }

    #[test]
    fn calls_take_only_their_own_arguments() {
        assert!(error(b"ccollections\nOrderedDict\nK\x01\x85R.").contains("arguments it does not take"));
        assert!(error(b"ctorch\nFloatStorage\n)R.").contains("arguments it does not take"));
        assert!(error(b"NN\x86NR.").contains("not callable"));
        assert!(error(b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))tR.").contains("not described"));
    }

    #[test]
    fn damage_is_an_error() {
        for damaged in
            ["", "X\x10\0\0\0ab.", "h\x07.", "0.", "t.", "a.", "]a.", "Ns.", "(K.", "(NNs.", "}(Nu.", "q\x01."]
        {
            assert!(load(damaged.as_bytes()).is_err(), "{damaged:?}");
        }
        assert!(error(b"\x8a\x09123456789.").contains("64 bits"));
        assert!(error(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.").contains("truncated"));
    }

    #[test]
    fn integers_of_every_length_are_read() {
        let integer = |bytes: &[u8]| match load(bytes).unwrap().root {
            Value::Int(value) => value,
            other => panic!("{other:?}"),
        };
        assert_eq!(integer(b"K\xff."), 255);
        assert_eq!(integer(b"M\xff\xff."), 65_535);
        assert_eq!(integer(b"J\xfe\xff\xff\xff."), -2);
        assert_eq!(integer(b"\x8a\x00."), 0);
        assert_eq!(integer(b"\x8a\x01\x80."), -128);
        assert_eq!(integer(b"\x8a\x05\x00\x00\x00\x00\x01."), 1 << 32);
    }

    #[test]
    fn deep_nesting_and_cycles_cost_only_their_length() {
        let mut nested = vec![b')'];
        nested.extend(std::iter::repeat_n(opcode::TUPLE1, 1_000_000));
        nested.push(b'.');
        assert!(matches!(load(&nested).unwrap().root, Value::Tuple(_)));
        let cycle = load(b"}q\x01K\x00h\x01s.").unwrap();
        assert_eq!(cycle.heap.dicts[0].len(), 1);
        let far = load(b"}r\xff\xff\xff\xffj\xff\xff\xff\xff.").unwrap();
        assert_eq!(far.heap.dicts.len(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = load(&bytes);
        }

        #[test]
        fn any_program_of_known_instructions_gives_a_value_or_an_error(
            program in proptest::collection::vec(proptest::sample::select(&b"(0KN])}aebcqhstu\x85\x86\x87R\x88\x94X.\x01\x00"[..]), 0..200)
        ) {
            let _ = load(&program);
        }
    }
}

//! A pickle machine with exactly the instructions that a torch state dict needs.
//!
//! It builds plain values and can execute nothing: a global that is not on the short list below, and every instruction
//! that is not needed, is rejected by name. Containers live in an arena and values refer to them by index, so that
//! copying a value costs nothing, cycles are harmless, dropping does not recurse, and memory grows only with the
//! length of the input. See docs/methods.md, "Checkpoint files"; `pickletools` of Python has the instruction set.

use std::rc::Rc;

use super::tensor::Dtype;
use machine::Machine;

mod machine;

/// Why a pickle was rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("`{0}` is not allowed in a state dict; rejected without executing anything")]
    Global(String),
    #[error(
        "instruction `{name}` at byte {at} is not allowed in a state dict; rejected without executing anything"
    )]
    Instruction { name: String, at: usize },
    #[error(
        "the pickle ends in the middle of an instruction at byte {0}; the file is truncated or damaged"
    )]
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

/// Runs the pickle.
pub fn load(bytes: &[u8]) -> Result<Loaded, Error> {
    Machine::new(bytes).run()
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(bytes: &[u8]) -> String {
        load(bytes).unwrap_err().to_string()
    }

    #[test]
    fn code_is_rejected_by_name() {
        assert_eq!(
            error(b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R."),
            "`posix.system` is not allowed in a state dict; rejected without executing anything"
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
        assert!(
            error(b"ccollections\nOrderedDict\nK\x01\x85R.").contains("arguments it does not take")
        );
        assert!(error(b"ctorch\nFloatStorage\n)R.").contains("arguments it does not take"));
        assert!(error(b"NN\x86NR.").contains("not callable"));
        assert!(
            error(b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00))tR.").contains("not described")
        );
    }

    #[test]
    fn damage_is_an_error() {
        for damaged in [
            "",
            "X\x10\0\0\0ab.",
            "h\x07.",
            "0.",
            "t.",
            "a.",
            "]a.",
            "Ns.",
            "(K.",
            "(NNs.",
            "}(Nu.",
            "q\x01.",
        ] {
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
        nested.extend(std::iter::repeat_n(0x85, 1_000_000));
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

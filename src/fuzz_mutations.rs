//! Seeded random mutations of files, for tests of readers.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rand::Rng;

use crate::random::{Seed, Stream, below};

/// Number of mutations per test.
const MUTATIONS: usize = 10_000;

/// Calls a reader with 10,000 reproducible mutations of the bytes.
pub fn each(whole: &[u8], mut read: impl FnMut(&[u8])) {
    let mut stream = Seed(7).stream("damage", &[whole.len() as u64]);
    for _ in 0..MUTATIONS {
        read(&damage(whole, &mut stream));
    }
}

/// Like [`each`], for a reader of files.
pub fn each_file(whole: &[u8], mut read: impl FnMut(&Path)) {
    let file = tempfile::NamedTempFile::new().unwrap();
    each(whole, |bytes| {
        overwrite(file.as_file(), bytes);
        read(file.path());
    });
}

/// Replaces the content in place, which is much faster than creating the file again.
pub fn overwrite(file: &File, bytes: &[u8]) {
    file.write_all_at(bytes, 0).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
}

const INSERTED: [&[u8]; 14] = [
    b"0",
    b"7",
    b"-",
    b"+",
    b"\0",
    b"\n",
    b"\t",
    b",",
    b"\"",
    b"\xff",
    b"nan",
    b"1e999",
    b"4294967296",
    b"99999999999999999999999999",
];

/// Makes one to three mutations: bit flip, truncation, deletion, duplication or insertion.
pub fn damage(bytes: &[u8], stream: &mut Stream) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + below(stream, 3) {
        let at = below(stream, bytes.len() + 1);
        let end = (at + 1 + below(stream, 20)).min(bytes.len());
        match below(stream, 8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            3..=5 => {
                let piece = INSERTED[below(stream, INSERTED.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << (stream.next_u32() % 8);
                }
            }
        }
    }
    bytes
}

//! What tables of cells in text files have in common: names and numbers.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::transpose_spool::Spooled;
use super::{Column, Error, Matrix, Plain, Source};

/// A table of cells by genes from text files.
#[derive(Debug)]
pub struct TextTable {
    pub cell_names: Vec<String>,
    pub gene_names: Vec<String>,
    /// Annotations of genes, as long as `gene_names`.
    pub var: Vec<(String, Column)>,
    pub matrix: Spooled,
}

impl TextTable {
    pub(super) fn into_plain(self, path: &Path) -> Plain {
        Plain {
            path: path.to_owned(),
            cell_names: self.cell_names,
            gene_names: self.gene_names,
            obs: Vec::new(),
            var: self.var,
            matrices: vec![(Source::X, Arc::new(Matrix::spooled(self.matrix, path)))],
        }
    }
}

/// Memory that a name takes in addition to its letters.
const NAME_MEMORY: usize = 40;

/// Memory left for names; there are never more of them than 32 bits count.
#[derive(Debug)]
pub(super) struct Names {
    limit: usize,
    left: usize,
}

impl Names {
    pub fn within(memory: usize) -> Self {
        let limit = memory.min(u32::MAX as usize * NAME_MEMORY);
        Self { limit, left: limit }
    }

    /// The name with these bytes, or what is wrong with it.
    pub fn name(&mut self, bytes: &[u8]) -> Result<String, String> {
        let name = str::from_utf8(bytes)
            .map_err(|_| format!("the name `{}` is not UTF-8 text", shown(bytes)))?;
        let taken = name.len() + NAME_MEMORY;
        self.left = self.left.checked_sub(taken).ok_or_else(|| {
            format!(
                "the names so far take {} bytes, as much as is allowed: give more memory",
                self.limit
            )
        })?;
        Ok(name.to_owned())
    }
}

/// The longest line read within some memory.
pub(super) fn longest_line(memory: usize) -> usize {
    (memory / 8).max(1 << 20)
}

/// A failure to keep the entries of a file in the directory for temporary files, or what is wrong with them.
pub(super) fn not_kept(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |error| match error.kind() {
        io::ErrorKind::InvalidData => Error::input(path, error.to_string()),
        _ => Error::write(&std::env::temp_dir(), error),
    }
}

/// A whole number without a sign.
pub(super) fn whole(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + u64::from(digit - b'0'))
    })
}

/// A finite number.
pub(super) fn number(text: &[u8]) -> Option<f32> {
    if let Some(whole) = whole(text) {
        return Some(whole as f32);
    }
    let number: f32 = str::from_utf8(text.trim_ascii()).ok()?.parse().ok()?;
    number.is_finite().then_some(number)
}

/// The beginning of what was found, for an error.
pub(super) fn shown(bytes: &[u8]) -> String {
    const LONGEST: usize = 40;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * LONGEST)]);
    let letters = text.chars().map(|letter| match letter.is_control() {
        true => ' ',
        false => letter,
    });
    let mut shown: String = letters.take(LONGEST).collect();
    if text.chars().count() > LONGEST {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_finite_and_nothing_else() {
        let good: [(&[u8], f32); 6] = [
            (b"0", 0.0),
            (b"16777217", 16777216.0),
            (b" 1.5e1 ", 15.0),
            (b"-3", -3.0),
            (b"99999999999999999999", 1e20),
            (b".5", 0.5),
        ];
        for (text, value) in good {
            assert_eq!(number(text), Some(value));
        }
        for text in [
            "", " ", "nan", "inf", "1e999", "1,5", "0x1", "1 2", "-", "NA",
        ] {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn names_stay_within_their_memory() {
        let mut names = Names::within(100);
        assert_eq!(names.name(b"MT-CO1").unwrap(), "MT-CO1");
        assert!(names.name(b"\xff").unwrap_err().contains("UTF-8"));
        names.name(b"x").unwrap();
        assert!(names.name(b"y").unwrap_err().contains("memory"));
    }
}

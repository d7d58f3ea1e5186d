//! Text files, compressed or not, line by line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::Error;

const BUFFER: usize = 1 << 16;

/// First bytes of compression formats that are not supported.
const OTHERS: [(&[u8], &str); 3] = [
    (b"BZh", "bzip2"),
    (b"\xfd7zX", "xz"),
    (b"PK\x03\x04", "zip"),
];

/// The text of a file that is plain, gzip (all its members) or zstd, detected by its first bytes.
pub(super) fn open(path: &Path) -> Result<Box<dyn BufRead + Send>, Error> {
    let failed = |source| Error::read(path, source);
    let mut file = File::open(path).map_err(failed)?;
    let mut start = Vec::new();
    file.by_ref()
        .take(4)
        .read_to_end(&mut start)
        .map_err(failed)?;
    if let Some((_, kind)) = OTHERS.iter().find(|(magic, _)| start.starts_with(magic)) {
        let problem = format!("it is compressed with {kind}: compress it with gzip or zstd");
        return Err(Error::input(path, problem));
    }
    let is_gzip = start.starts_with(b"\x1f\x8b");
    let is_zstd = start == b"\x28\xb5\x2f\xfd";
    let whole = BufReader::with_capacity(BUFFER, Cursor::new(start).chain(file));
    Ok(if is_gzip {
        Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(whole)))
    } else if is_zstd {
        let decoder = zstd::Decoder::with_buffer(whole).map_err(failed)?;
        Box::new(BufReader::with_capacity(BUFFER, decoder))
    } else {
        Box::new(whole)
    })
}

/// The lines of a text file, without their ends and without a byte order mark.
pub(super) struct Lines {
    path: PathBuf,
    text: Box<dyn BufRead + Send>,
    line: Vec<u8>,
    limit: usize,
    number: u64,
}

impl Lines {
    /// Opens a file whose lines have at most `limit` bytes.
    pub fn open(path: &Path, limit: usize) -> Result<Self, Error> {
        Ok(Self {
            path: path.to_owned(),
            text: open(path)?,
            line: Vec::new(),
            limit,
            number: 0,
        })
    }

    /// The next line, or none at the end of the file.
    pub fn next(&mut self) -> Result<Option<&[u8]>, Error> {
        self.line.clear();
        self.number += 1;
        let mut any = false;
        loop {
            let found = match self.text.fill_buf() {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unreadable(&self.path, error)),
            };
            any |= !found.is_empty();
            let end = memchr::memchr(b'\n', found);
            let length = end.unwrap_or(found.len());
            if self.line.len() + length > self.limit {
                return Err(self.wrong(format!(
                    "it is longer than {} bytes; a longer one takes more memory",
                    self.limit
                )));
            }
            self.line.extend_from_slice(&found[..length]);
            let is_last = found.is_empty();
            self.text.consume(length + usize::from(end.is_some()));
            if end.is_some() || is_last {
                break;
            }
        }
        Ok(any.then(|| self.current()))
    }

    /// The line that was read last.
    pub fn current(&self) -> &[u8] {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        match self.number {
            1 => line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line),
            _ => line,
        }
    }

    /// The file that is read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An error about the line that was read last.
    pub fn wrong(&self, problem: impl std::fmt::Display) -> Error {
        Error::input(&self.path, format!("line {}: {problem}", self.number))
    }
}

/// An error of the operating system, or of a decoder that met bytes it does not know.
pub(super) fn unreadable(path: &Path, error: io::Error) -> Error {
    if error.raw_os_error().is_some() {
        return Error::read(path, error);
    }
    let problem = format!("its compressed data is truncated or damaged ({error})");
    Error::input(path, problem)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn lines(bytes: &[u8], limit: usize) -> Result<Vec<String>, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let (mut lines, mut found) = (Lines::open(file.path(), limit)?, Vec::new());
        while let Some(line) = lines.next()? {
            found.push(String::from_utf8(line.to_owned()).unwrap());
        }
        Ok(found)
    }

    #[test]
    fn plain_gzip_and_zstd_give_the_same_lines() {
        let text = b"\xef\xbb\xbfa\r\n\nlonger\nlast";
        let expected = ["a", "", "longer", "last"];
        assert_eq!(lines(text, 9).unwrap(), expected);
        let members = [gzip(&text[..5]), gzip(&text[5..])].concat();
        assert_eq!(lines(&members, 9).unwrap(), expected);
        let packed = zstd::encode_all(&text[..], 3).unwrap();
        assert_eq!(lines(&packed, 9).unwrap(), expected);
        assert!(lines(b"", 9).unwrap().is_empty());
    }

    #[test]
    fn an_endless_line_is_rejected_by_its_number() {
        let bomb = [&b"short\n"[..], &vec![b'0'; 1 << 24]].concat();
        for bytes in [gzip(&bomb), zstd::encode_all(&bomb[..], 3).unwrap(), bomb] {
            let error = lines(&bytes, 1000).unwrap_err().to_string();
            assert!(error.contains("line 2: it is longer than 1000"), "{error}");
        }
    }

    #[test]
    fn cut_and_foreign_compression_are_distinguished_from_failing_disks() {
        let text = "1\t2\t3\n".repeat(1000);
        for whole in [
            gzip(text.as_bytes()),
            zstd::encode_all(text.as_bytes(), 3).unwrap(),
        ] {
            let error = lines(&whole[..whole.len() - 9], 99).unwrap_err();
            assert!(
                !error.is_io() && error.to_string().contains("truncated"),
                "{error}"
            );
        }
        let error = lines(b"BZh91AY", 99).unwrap_err().to_string();
        assert!(error.contains("bzip2"), "{error}");
        let directory = tempfile::tempdir().unwrap();
        assert!(Lines::open(directory.path(), 9).is_err_and(|error| error.is_io()));
    }
}

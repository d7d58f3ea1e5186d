//! Detects the one type of damage at which the HDF5 library hangs instead of reporting it.
//!
//! Texts of variable length lie in global heaps: a header, then objects one after the other (HDF5 file format
//! specification, section III.E). HDF5 2.2 steps through the objects by their size, and stays forever at one numbered 0 whose
//! size is 0, as in a region that an interrupted download left empty. This passes through the file once, in
//! little memory, before HDF5 reads a text.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use memchr::memmem::Finder;

use crate::formats::Error;

const SIGNATURE: &[u8] = b"GCOL";
const HEADER: u64 = 16;
const BLOCK: usize = 1 << 20;

/// Rejects a file with a heap that HDF5 would never finish reading.
pub(super) fn check(path: &Path) -> Result<(), Error> {
    let endless = find_endless(path).map_err(|error| Error::read(path, error))?;
    match endless {
        Some(at) => Err(Error::input(
            path,
            format!(
                "the file is damaged: the texts stored from byte {at} on are cut by an empty region; copy or download it again"
            ),
        )),
        None => Ok(()),
    }
}

fn find_endless(path: &Path) -> io::Result<Option<u64>> {
    let (mut file, mut objects) = (
        File::open(path)?,
        BufReader::with_capacity(4096, File::open(path)?),
    );
    let length = file.metadata()?.len();
    let finder = Finder::new(SIGNATURE);
    // Each block starts with the end of the one before, where a signature may begin.
    let (mut block, mut kept, mut start) = (vec![0; BLOCK], 0, 0u64);
    loop {
        let read = file.read(&mut block[kept..])?;
        if read == 0 {
            return Ok(None);
        }
        let filled = kept + read;
        for at in finder.find_iter(&block[..filled]) {
            let at = start + at as u64;
            if is_endless(&mut objects, at, length)? {
                return Ok(Some(at));
            }
        }
        kept = filled.min(SIGNATURE.len() - 1);
        block.copy_within(filled - kept..filled, 0);
        start += (filled - kept) as u64;
    }
}

/// Whether stepping through the heap at `at` never ends; what else may be wrong with it, HDF5 reports.
fn is_endless(file: &mut BufReader<File>, at: u64, length: u64) -> io::Result<bool> {
    if length - at < 2 * HEADER {
        return Ok(false);
    }
    file.seek(SeekFrom::Start(at))?;
    let header = read_header(file)?;
    let end = at.saturating_add(size_in(&header));
    if header[4] != 1 || end > length {
        return Ok(false);
    }
    let mut at = at + HEADER;
    while at + HEADER <= end {
        // Relative, because that keeps what is buffered.
        let here = file.stream_position()?;
        file.seek_relative(at as i64 - here as i64)?;
        let header = read_header(file)?;
        let index = u16::from_le_bytes([header[0], header[1]]);
        let size = size_in(&header);
        // Too large a size wraps around in HDF5, too.
        let step = match index {
            0 => size,
            _ => (size.wrapping_add(7) & !7).wrapping_add(HEADER),
        };
        match step {
            0 => return Ok(true),
            step if step <= end - at => at += step,
            _ => return Ok(false),
        }
    }
    Ok(false)
}

fn read_header(file: &mut impl Read) -> io::Result<[u8; HEADER as usize]> {
    let mut header = [0; HEADER as usize];
    file.read_exact(&mut header)?;
    Ok(header)
}

/// The size that the second half of a header gives, for a heap as for an object.
fn size_in(header: &[u8; HEADER as usize]) -> u64 {
    u64::from_le_bytes(
        header[8..]
            .try_into()
            .expect("half of sixteen bytes is eight"),
    )
}

//! TensorBoard event file with the scalars of a run.
//!
//! An event file is a sequence of TFRecords, each of which holds one `Event` message. TensorFlow defines both:
//! - the framing in `tensorflow/core/lib/io/record_writer.h`, with the mask of its checksums in
//!   `tensorflow/core/lib/hash/crc32c.h`;
//! - the message in `tensorflow/core/util/event.proto` and `tensorflow/core/framework/summary.proto`.

use anyhow::{Context, Result};
use crc::{CRC_32_ISCSI, Crc};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The version of the format, which the first event of a file states.
const FILE_VERSION: &str = "brain.Event:2";

/// CRC-32C, which the catalog lists under iSCSI.
static CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// The file of one event per record.
///
/// TensorBoard only reads files that have `tfevents` in their name.
///
/// The wall time of an event is its step, taken as seconds. The same run therefore writes the same bytes, and the time
/// axis of TensorBoard has no meaning.
#[derive(Debug)]
pub struct Events {
    file: File,
    path: PathBuf,
}

impl Events {
    /// Starts a file with the event that states the version, in place of any file that was there.
    ///
    /// # Errors
    /// If the file cannot be created or written.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path)
            .with_context(|| format!("could not write events to `{}`", path.display()))?;
        let mut events = Self {
            file,
            path: path.to_owned(),
        };
        events.write(&version())?;
        Ok(events)
    }

    /// Writes the values of one step, each under its tag, as one event.
    ///
    /// The format stores single precision, so a value is rounded to it, and is infinite if it is out of range.
    ///
    /// # Errors
    /// If the file cannot be written. It may then end with an incomplete event.
    pub fn scalars(&mut self, step: u64, values: &[(impl AsRef<str>, f64)]) -> Result<()> {
        self.write(&summary(step, values))
    }

    /// Writes a whole record at once, so that readers see complete records.
    fn write(&mut self, event: &Message) -> Result<()> {
        self.file
            .write_all(&record(&event.0))
            .with_context(|| format!("could not write to `{}`", self.path.display()))
    }
}

/// A TFRecord: the length of the data and the data, each with its checksum behind it.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let [of_length, of_data] = [&length[..], data].map(|bytes| masked_crc(bytes).to_le_bytes());
    [&length[..], &of_length, data, &of_data].concat()
}

/// The CRC-32C of the bytes, masked because a CRC over bytes that contain CRCs is weak.
fn masked_crc(bytes: &[u8]) -> u32 {
    CRC32C
        .checksum(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// `Event { wall_time = 1, file_version = 3 }`
fn version() -> Message {
    let mut event = Message::default();
    event.double(1, 0.0);
    event.bytes(3, FILE_VERSION.as_bytes());
    event
}

/// `Event { wall_time = 1, step = 2, summary = 5 { repeated value = 1 { tag = 1, simple_value = 2 } } }`
fn summary(step: u64, values: &[(impl AsRef<str>, f64)]) -> Message {
    let mut summary = Message::default();
    for (tag, number) in values {
        let mut value = Message::default();
        value.bytes(1, tag.as_ref().as_bytes());
        value.float(2, *number as f32);
        summary.bytes(1, &value.0);
    }
    let mut event = Message::default();
    event.double(1, step as f64);
    event.integer(2, step);
    event.bytes(5, &summary.0);
    event
}

/// A protocol buffer message under construction.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn integer(&mut self, field: u64, value: u64) {
        self.key(field, 0);
        self.varint(value);
    }

    fn double(&mut self, field: u64, value: f64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    /// A string, or the bytes of another message.
    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }

    fn float(&mut self, field: u64, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    /// Key of a field: its number and wire type.
    fn key(&mut self, field: u64, wire_type: u64) {
        self.varint(field << 3 | wire_type);
    }

    /// Seven bits per byte from the lowest on, with the high bit set on all but the last byte.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The bytes of a file with the given events.
    fn file(events: &[(u64, &[(&str, f64)])]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.out.tfevents");
        let mut written = Events::create(&path).unwrap();
        for (step, values) in events {
            written.scalars(*step, values).unwrap();
        }
        fs::read(path).unwrap()
    }

    /// Takes `n` bytes off the front.
    fn take<'a>(bytes: &mut &'a [u8], n: usize) -> &'a [u8] {
        bytes.split_off(..n).expect("enough bytes")
    }

    /// Takes bytes and the checksum behind them.
    fn take_checked<'a>(bytes: &mut &'a [u8], n: usize) -> &'a [u8] {
        let data = take(bytes, n);
        assert_eq!(take(bytes, 4), masked_crc(data).to_le_bytes());
        data
    }

    /// The data of each record in a file.
    fn records(mut file: &[u8]) -> Vec<&[u8]> {
        let mut records = Vec::new();
        while !file.is_empty() {
            let length = take_checked(&mut file, 8).try_into().unwrap();
            records.push(take_checked(&mut file, u64::from_le_bytes(length) as usize));
        }
        records
    }

    fn take_varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = take(bytes, 1)[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    #[derive(Debug, PartialEq)]
    enum Field<'a> {
        Integer(u64),
        Double(f64),
        Bytes(&'a [u8]),
        Float(f32),
    }
    use Field::*;

    /// The fields of a message with their numbers.
    fn fields(mut message: &[u8]) -> Vec<(u64, Field<'_>)> {
        let mut fields = Vec::new();
        let bytes = &mut message;
        while !bytes.is_empty() {
            let key = take_varint(bytes);
            let field = match key & 7 {
                0 => Integer(take_varint(bytes)),
                1 => Double(f64::from_le_bytes(take(bytes, 8).try_into().unwrap())),
                2 => {
                    let length = take_varint(bytes) as usize;
                    Bytes(take(bytes, length))
                }
                5 => Float(f32::from_le_bytes(take(bytes, 4).try_into().unwrap())),
                other => panic!("wire type {other}"),
            };
            fields.push((key >> 3, field));
        }
        fields
    }

    /// The step and the tagged values of an event, whose wall time must equal the step.
    fn scalars(event: &[u8]) -> (u64, Vec<(&str, f32)>) {
        let [(1, Double(time)), (2, Integer(step)), (5, Bytes(summary))] = fields(event)[..] else {
            panic!("{:?}", fields(event));
        };
        assert_eq!(time, step as f64);
        let value = |(number, value)| {
            let (1, Bytes(value)) = (number, value) else {
                panic!("not a value");
            };
            let [(1, Bytes(tag)), (2, Float(number))] = fields(value)[..] else {
                panic!("{:?}", fields(value));
            };
            (str::from_utf8(tag).unwrap(), number)
        };
        (step, fields(summary).into_iter().map(value).collect())
    }

    #[test]
    fn checksums_are_masked_crc32c() {
        // The check value of CRC-32C, and the 32 zero bytes of RFC 3720, appendix B.4.
        assert_eq!(CRC32C.checksum(b"123456789"), 0xe306_9283);
        assert_eq!(CRC32C.checksum(&[0; 32]), 0x8a91_36aa);
        // What TensorFlow's own files begin with: a length of 24.
        assert_eq!(masked_crc(&24u64.to_le_bytes()), 0x224b_7fa3);
    }

    #[test]
    fn a_small_file_has_known_bytes() {
        let version = [
            &b"\x18\0\0\0\0\0\0\0\xa3\x7f\x4b\x22"[..],
            b"\x09\0\0\0\0\0\0\0\0\x1a\x0dbrain.Event:2",
            b"\xee\xdf\x28\xa3",
        ];
        assert_eq!(file(&[]), version.concat());
        let event = [
            &b"\x1b\0\0\0\0\0\0\0\x1a\x0d\x9e\x13"[..],
            b"\x09\0\0\0\0\0\xc0\x72\x40\x10\xac\x02",
            b"\x2a\x0d\x0a\x0b\x0a\x04loss\x15\0\0\0\x3f",
            b"\x27\x55\x4a\x2e",
        ];
        let whole = [version.concat(), event.concat()].concat();
        assert_eq!(file(&[(300, &[("loss", 0.5)])]), whole);
    }

    #[test]
    fn events_are_read_back() {
        let values = [("loss/train", 0.1), ("größe", -2.0), ("beyond", 1e300)];
        let bytes = file(&[(0, &values), (1 << 40, &[]), (7, &[("zero", 0.0)])]);
        let [version, events @ ..] = &records(&bytes)[..] else {
            panic!("no records");
        };
        let named = (3, Bytes(FILE_VERSION.as_bytes()));
        assert_eq!(fields(version), [(1, Double(0.0)), named]);
        let rounded = vec![
            ("loss/train", 0.1),
            ("größe", -2.0),
            ("beyond", f32::INFINITY),
        ];
        let expected = [(0, rounded), (1 << 40, vec![]), (7, vec![("zero", 0.0)])];
        assert_eq!(
            events
                .iter()
                .map(|event| scalars(event))
                .collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn a_file_starts_anew_and_is_complete_after_each_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.out.tfevents");
        fs::write(&path, [1; 1000]).unwrap();
        let mut events = Events::create(&path).unwrap();
        assert_eq!(records(&fs::read(&path).unwrap()).len(), 1);
        events.scalars(1, &[("loss".to_owned(), 1.0)]).unwrap();
        assert_eq!(records(&fs::read(&path).unwrap()).len(), 2);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = Events::create(Path::new("/missing/events.out.tfevents")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "could not write events to `/missing/events.out.tfevents`"
        );
    }
}

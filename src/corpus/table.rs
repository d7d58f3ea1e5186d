//! A Parquet file of cells, ours or another writer's: `genes` and `expressions` are lists of any numbers, annotations are
//! plain columns. A row group is what is in memory at once.
//!
//! The Parquet library can panic on damaged bytes; that becomes an error here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::basic::{Compression, ConvertedType, LogicalType, Type as Physical};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use super::pages::{Pages, Source};
use super::{EXPRESSIONS, Error, GENES, Group, ID, Kind, Size};
use crate::formats::Column;

/// The most tokens of a row group that is read.
const MOST_TOKENS: i64 = 1 << 25;
/// The most bytes of text in one annotation of a row group.
const MOST_TEXT: usize = 1 << 26;
const REWRITE: &str = "rewrite it, as with `pyarrow.parquet.write_table(table, path, compression=\"zstd\", row_group_size=1000)`";

/// A column of lists of numbers.
#[derive(Debug, Clone, Copy)]
struct ListColumn {
    position: usize,
    /// The definition level of a list that is there but empty: 1 if it could be null.
    empty: i16,
}

/// A Parquet file of cells.
#[derive(Debug)]
pub(super) struct Table {
    path: PathBuf,
    metadata: ParquetMetaData,
    genes: ListColumn,
    expressions: ListColumn,
    obs: Vec<(String, Kind, usize)>,
    pub groups: Vec<Size>,
}

impl Table {
    /// Reads the metadata of the file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let source = Source::open(path).map_err(|error| Error::read(path, error))?;
        let read = || ParquetMetaDataReader::new().parse_and_finish(&source);
        let metadata = contained(read).map_err(|e| Error::parquet(path, "the file's end", e))?;
        let problem = |problem| Error::input(path, problem);
        let schema = metadata.file_metadata().schema_descr();
        let find = |name| list(schema, name).map_err(problem);
        let (genes, expressions) = (find(GENES)?, find(EXPRESSIONS)?);
        let obs = schema
            .columns()
            .iter()
            .enumerate()
            .filter_map(|(position, column)| {
                let name = column.name();
                let kind = annotation(column).filter(|_| name != ID)?;
                Some((name.to_owned(), kind, position))
            });
        let obs: Vec<_> = obs.collect();
        let used = [genes.position, expressions.position]
            .into_iter()
            .chain(obs.iter().map(|column| column.2));
        let used: Vec<usize> = used.collect();
        let sizes = metadata.row_groups().iter().enumerate();
        let groups = sizes.map(|(position, group)| {
            size(group, &used).map_err(|e| problem(format!("row group {position}: {e}")))
        });
        Ok(Self {
            groups: groups.collect::<Result<_, _>>()?,
            path: path.to_owned(),
            genes,
            expressions,
            obs,
            metadata,
        })
    }

    /// Names and types of the annotations.
    pub fn obs(&self) -> impl Iterator<Item = (&str, Kind)> {
        self.obs
            .iter()
            .map(|(name, kind, _)| (name.as_str(), *kind))
    }

    /// Reads one row group, whose gene ids are to be below `genes`.
    pub fn read(&self, group: usize, genes: usize) -> Result<Group, Error> {
        let Some(metadata) = self.metadata.row_groups().get(group) else {
            let there = self.groups.len();
            return Err(Error::input(
                &self.path,
                format!("row group {group} of {there}"),
            ));
        };
        let source = Source::open(&self.path);
        let rows = RowGroup {
            path: &self.path,
            position: group,
            source: source.map_err(|error| Error::read(&self.path, error))?,
            metadata,
            rows: self.groups[group].cells as usize,
        };
        let ids = rows.lists(self.genes)?;
        let values = rows.lists(self.expressions)?;
        let obs = self.obs.iter();
        let obs = obs.map(|(name, kind, column)| rows.annotation(*column, name, *kind));
        Ok(Group {
            genes: rows.gene_ids(&ids, &values.offsets, genes)?,
            values: rows.finite(&values)?,
            obs: obs.collect::<Result<_, _>>()?,
            offsets: ids.offsets,
        })
    }
}

/// Does work of the Parquet library; its panic becomes an error.
fn contained<T>(work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(ParquetError::General("the file is damaged".to_owned())))
}

/// The column that holds the elements of a list of numbers.
fn list(schema: &SchemaDescriptor, name: &str) -> Result<ListColumn, String> {
    let is_named = |&position: &usize| schema.get_column_root(position).name() == name;
    let mut found = (0..schema.num_columns()).filter(is_named);
    let position = found.next().ok_or_else(|| {
        format!("there is no column `{name}`; a table of cells has `{ID}`, `{GENES}` and `{EXPRESSIONS}`")
    })?;
    let (root, column) = (schema.get_column_root(position), schema.column(position));
    let empty = i16::from(root.is_optional());
    let is_list =
        column.max_rep_level() == 1 && (0..=1).contains(&(column.max_def_level() - empty - 1));
    if !is_list || !is_number(&column) || found.next().is_some() {
        return Err(format!("column `{name}` is not a list of numbers"));
    }
    Ok(ListColumn { position, empty })
}

fn is_number(column: &ColumnDescriptor) -> bool {
    let is_plain = match column.logical_type_ref() {
        None => matches!(
            column.converted_type(),
            ConvertedType::NONE
                | ConvertedType::INT_8
                | ConvertedType::INT_16
                | ConvertedType::INT_32
                | ConvertedType::INT_64
                | ConvertedType::UINT_8
                | ConvertedType::UINT_16
        ),
        Some(LogicalType::Integer(kind)) => kind.is_signed || kind.bit_width < 32,
        Some(_) => false,
    };
    is_plain
        && matches!(
            column.physical_type(),
            Physical::INT32 | Physical::INT64 | Physical::FLOAT | Physical::DOUBLE
        )
}

/// The type of an annotation column; none for other columns.
fn annotation(column: &ColumnDescriptor) -> Option<Kind> {
    let is_text = matches!(column.logical_type_ref(), Some(LogicalType::String))
        || column.converted_type() == ConvertedType::UTF8;
    let is_flat = column.max_rep_level() == 0 && column.path().parts().len() == 1;
    match column.physical_type() {
        _ if !is_flat => None,
        Physical::BYTE_ARRAY if is_text => Some(Kind::Text),
        Physical::BOOLEAN => Some(Kind::Boolean),
        _ if is_number(column) => Some(Kind::Number),
        _ => None,
    }
}

/// Size of a row group, if the columns that are used, `genes` first, can be read.
fn size(group: &RowGroupMetaData, used: &[usize]) -> Result<Size, String> {
    for &position in used {
        let column = group.columns().get(position).ok_or("columns are missing")?;
        readable(column)?;
    }
    let (cells, tokens) = (group.num_rows(), group.column(used[0]).num_values());
    if !(0..=tokens).contains(&cells) {
        return Err(format!(
            "{cells} cells and {tokens} tokens do not go together"
        ));
    }
    Ok(Size {
        cells: cells as u64,
        tokens: tokens as u64,
    })
}

fn readable(column: &ColumnChunkMetaData) -> Result<(), String> {
    let name = column.column_path().string();
    let start = column
        .dictionary_page_offset()
        .unwrap_or(column.data_page_offset());
    if start < 0
        || column.compressed_size() < 0
        || column.num_values() < 0
        || column.file_path().is_some()
    {
        return Err(format!("column `{name}` is not in the file"));
    }
    let entries = column.num_values();
    if entries > MOST_TOKENS {
        return Err(format!(
            "{entries} entries of `{name}` are too many to read at once; {REWRITE}"
        ));
    }
    match column.compression() {
        Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::ZSTD(_) => Ok(()),
        other => {
            let other = other.to_string();
            let codec = other.split('(').next().unwrap_or_default();
            Err(format!(
                "column `{name}` is compressed with {codec}, expected zstd, snappy or none; {REWRITE}"
            ))
        }
    }
}

/// Lists of numbers, one for each cell. Numbers of all types fit: ids are far below 2^53.
struct Lists {
    offsets: Vec<usize>,
    numbers: Vec<f64>,
}

impl Lists {
    /// The cell that holds a number.
    fn cell(&self, position: usize) -> usize {
        self.offsets.partition_point(|&offset| offset <= position) - 1
    }
}

/// Entries of a column: the values that are there, and the levels that say where.
struct Entries<V> {
    values: Vec<V>,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
}

/// A row group being read.
struct RowGroup<'a> {
    path: &'a Path,
    position: usize,
    source: Source,
    metadata: &'a RowGroupMetaData,
    rows: usize,
}

impl RowGroup<'_> {
    fn problem(&self, problem: impl std::fmt::Display) -> Error {
        Error::input(self.path, format!("row group {}: {problem}", self.position))
    }

    fn entries<T: DataType>(&self, column: usize) -> Result<Entries<T::T>, Error> {
        let metadata = self.metadata.column(column);
        let read = || {
            let pages = Box::new(Pages::new(&self.source, metadata, self.rows)?);
            let mut reader = ColumnReaderImpl::<T>::new(metadata.column_descr_ptr(), pages);
            let (mut values, mut definitions, mut repetitions) =
                (Vec::new(), Vec::new(), Vec::new());
            let (levels, starts) = (Some(&mut definitions), Some(&mut repetitions));
            let (rows, ..) = reader.read_records(self.rows, levels, starts, &mut values)?;
            if rows != self.rows {
                let expected = self.rows;
                return Err(ParquetError::General(format!(
                    "found {rows} rows, expected {expected}"
                )));
            }
            Ok(Entries {
                values,
                definitions,
                repetitions,
            })
        };
        let part = || {
            format!(
                "column `{}` of row group {}",
                metadata.column_path().string(),
                self.position
            )
        };
        contained(read).map_err(|error| Error::parquet(self.path, &part(), error))
    }

    /// Entries of a numeric column, whatever its type.
    fn numbers(&self, column: usize) -> Result<Entries<f64>, Error> {
        fn convert<V: Copy>(entries: Entries<V>, convert: impl Fn(V) -> f64) -> Entries<f64> {
            Entries {
                values: entries.values.into_iter().map(convert).collect(),
                definitions: entries.definitions,
                repetitions: entries.repetitions,
            }
        }
        match self.metadata.column(column).column_type() {
            Physical::INT32 => Ok(convert(self.entries::<Int32Type>(column)?, f64::from)),
            Physical::INT64 => Ok(convert(self.entries::<Int64Type>(column)?, |id| id as f64)),
            Physical::FLOAT => Ok(convert(self.entries::<FloatType>(column)?, f64::from)),
            _ => self.entries::<DoubleType>(column),
        }
    }

    fn lists(&self, column: ListColumn) -> Result<Lists, Error> {
        let ListColumn {
            position: column,
            empty,
        } = column;
        let descriptor = self.metadata.column(column).column_descr_ptr();
        let full = descriptor.max_def_level();
        let name = &descriptor.path().parts()[0];
        let Entries {
            values,
            definitions,
            repetitions,
        } = self.numbers(column)?;
        let mut offsets = Vec::with_capacity(self.rows + 1);
        let mut position = 0;
        for (&definition, &repetition) in definitions.iter().zip(&repetitions) {
            if repetition == 0 {
                offsets.push(position);
            }
            if definition == full {
                position += 1;
            } else if definition != empty || repetition != 0 {
                let what = if definition < empty {
                    "a list"
                } else {
                    "an entry"
                };
                let row = offsets.len().saturating_sub(1);
                return Err(self.problem(format!("row {row}: {what} of `{name}` is null")));
            }
        }
        offsets.push(position);
        if offsets.len() != self.rows + 1 || offsets[0] != 0 || position != values.len() {
            return Err(self.problem(format!("the lists of `{name}` do not add up")));
        }
        Ok(Lists {
            offsets,
            numbers: values,
        })
    }

    /// The gene ids as ids, if they belong to the vocabulary and are as many as the values.
    fn gene_ids(&self, ids: &Lists, of_values: &[usize], genes: usize) -> Result<Vec<u32>, Error> {
        let length = |offsets: &[usize], row: usize| offsets[row + 1] - offsets[row];
        if let Some(row) =
            (0..self.rows).find(|&row| length(&ids.offsets, row) != length(of_values, row))
        {
            let (ids, values) = (length(&ids.offsets, row), length(of_values, row));
            return Err(self.problem(format!(
                "row {row}: {ids} `{GENES}` and {values} `{EXPRESSIONS}`"
            )));
        }
        let is_id = |&id: &f64| id >= 0.0 && id < genes as f64 && id.fract() == 0.0;
        match ids.numbers.iter().position(|id| !is_id(id)) {
            None => Ok(ids.numbers.iter().map(|&id| id as u32).collect()),
            Some(position) => Err(self.problem(format!(
                "row {}: gene id {} is not in the vocabulary, whose ids go from 0 to below {genes}",
                ids.cell(position),
                ids.numbers[position]
            ))),
        }
    }

    fn finite(&self, lists: &Lists) -> Result<Vec<f32>, Error> {
        let values: Vec<f32> = lists.numbers.iter().map(|&value| value as f32).collect();
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(position) => Err(self.problem(format!(
                "row {}: the expression {} is not a finite number",
                lists.cell(position),
                lists.numbers[position]
            ))),
        }
    }

    fn annotation(&self, column: usize, name: &str, kind: Kind) -> Result<Column, Error> {
        Ok(match kind {
            Kind::Number => {
                let numbers = nullable(self.numbers(column)?, self.rows);
                Column::Number(
                    numbers
                        .map(|entry| entry.filter(|number| !number.is_nan()))
                        .collect(),
                )
            }
            Kind::Boolean => {
                Column::Boolean(nullable(self.entries::<BoolType>(column)?, self.rows).collect())
            }
            Kind::Text => {
                let entries = self.entries::<ByteArrayType>(column)?;
                if entries.values.iter().map(ByteArray::len).sum::<usize>() > MOST_TEXT {
                    return Err(self.problem(format!(
                        "the texts in `{name}` are too long; drop this column"
                    )));
                }
                let texts = nullable(entries, self.rows);
                let text = |bytes: ByteArray| match bytes.as_utf8() {
                    Ok(text) => Ok(text.to_owned()),
                    Err(_) => Err(self.problem(format!("a text in `{name}` is not UTF-8"))),
                };
                let texts = texts.map(|entry| entry.map(text).transpose());
                Column::Text(texts.collect::<Result<_, _>>()?)
            }
        })
    }
}

/// One entry for each row; a column that is required has no levels.
fn nullable<V>(entries: Entries<V>, rows: usize) -> impl Iterator<Item = Option<V>> {
    let is_required = entries.definitions.is_empty();
    let mut values = entries.values.into_iter();
    (0..rows).map(move |row| {
        let is_there = is_required || entries.definitions[row] == 1;
        is_there.then(|| values.next()).flatten()
    })
}

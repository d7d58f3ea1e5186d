//! Cells as one row group of a shard, encoded and compressed in memory, so that all cores can do it at once.
//!
//! Gene ids are DELTA_BINARY_PACKED and not compressed further: zstd makes them 1 % smaller when sorted, not at all when
//! unsorted, and takes up to a third of the speed; plain ids with zstd are 40 % larger and three times slower. Values are few
//! distinct numbers: a dictionary, and positions in it with zstd.

mod lists;

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::column::writer::{ColumnCloseResult, get_column_writer, get_typed_column_writer};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::{ColumnPath, SchemaDescriptor, Type, TypePtr};

use super::{EXPRESSIONS, Error, GENES, Group, ID, Kind, Schema};
use crate::formats::Column;

/// A row group ready to be appended to a shard.
pub struct Encoded {
    pub(super) columns: Vec<(Bytes, ColumnCloseResult)>,
    /// Number of cells.
    pub cells: usize,
    /// Number of tokens.
    pub tokens: usize,
    pub(super) genes: Genes,
}

/// The set of genes seen, one flag for each gene of the vocabulary.
#[derive(Debug, Clone, Default)]
pub(super) struct Genes(Vec<bool>);

impl Genes {
    fn of(genes: &[u32], size: usize) -> Self {
        let mut seen = vec![false; size];
        genes.iter().for_each(|&gene| seen[gene as usize] = true);
        Self(seen)
    }

    pub fn add(&mut self, other: &Self) {
        self.0.resize(self.0.len().max(other.0.len()), false);
        let pairs = self.0.iter_mut().zip(&other.0);
        pairs.for_each(|(mine, other)| *mine |= other);
    }

    pub fn count(&self) -> usize {
        self.0.iter().filter(|&&seen| seen).count()
    }
}

/// Encodes cells, the first of which has the given id, as one row group. The same cells give the same bytes.
///
/// Fails on cells that do not fit the schema: other annotations, a gene outside the vocabulary, a value that is not finite.
pub fn encode(group: &Group, first_id: i64, schema: &Schema) -> Result<Encoded, Error> {
    let failed = |problem| Error::Cells { first_id, problem };
    check(group, schema).map_err(failed)?;
    let columns = columns(group, first_id, schema).map_err(|error| failed(error.to_string()))?;
    Ok(Encoded {
        columns,
        cells: group.cells(),
        tokens: group.tokens(),
        genes: Genes::of(&group.genes, schema.genes),
    })
}

fn check(group: &Group, schema: &Schema) -> Result<(), String> {
    let (offsets, tokens) = (&group.offsets, group.tokens());
    let spans = offsets.first() == Some(&0)
        && offsets.is_sorted()
        && offsets.last() == Some(&tokens)
        && group.values.len() == tokens;
    if !spans {
        return Err(format!(
            "offsets, {tokens} genes and {} values disagree",
            group.values.len()
        ));
    }
    if let Some(gene) = group.genes.iter().max()
        && *gene as usize >= schema.genes
    {
        return Err(format!(
            "gene id {gene} is not below {}, the size of the vocabulary",
            schema.genes
        ));
    }
    // All are checked before the first invalid one is searched, which is faster than an early exit.
    let are_finite = |all, value: &f32| all & value.is_finite();
    if !group.values.iter().fold(true, are_finite)
        && let Some(value) = group.values.iter().find(|value| !value.is_finite())
    {
        return Err(format!("value {value} is not a finite number"));
    }
    let fits = |(column, (_, kind)): (&Column, &(String, Kind))| {
        column.len() == group.cells() && Kind::of(column) == *kind
    };
    if group.obs.len() != schema.obs.len() || !group.obs.iter().zip(&schema.obs).all(fits) {
        return Err(format!(
            "annotations are not those of the schema for {} cells",
            group.cells()
        ));
    }
    Ok(())
}

type Chunk = (Bytes, ColumnCloseResult);

fn columns(group: &Group, first_id: i64, schema: &Schema) -> Result<Vec<Chunk>, ParquetError> {
    let descriptor = SchemaDescriptor::new(parquet_type(schema)?);
    let properties = properties()?;
    let new = |position| Destination {
        properties: properties.clone(),
        descriptor: &descriptor,
        position,
    };
    let ids: Vec<i64> = (first_id..).take(group.cells()).collect();
    let mut chunks = vec![
        new(0).write::<Int64Type>(&ids, None)?,
        lists::genes(descriptor.column(1), &group.offsets, &group.genes)?,
        lists::values(descriptor.column(2), &group.offsets, &group.values)?,
    ];
    for (position, column) in (3..).zip(&group.obs) {
        chunks.push(new(position).annotate(column)?);
    }
    Ok(chunks)
}

/// The columns as Parquet describes them.
pub(super) fn parquet_type(schema: &Schema) -> Result<TypePtr, ParquetError> {
    let mut fields = vec![
        Type::primitive_type_builder(ID, Physical::INT64)
            .with_repetition(Repetition::REQUIRED)
            .build()?,
        list(GENES, Physical::INT64)?,
        list(EXPRESSIONS, Physical::FLOAT)?,
    ];
    for (name, kind) in &schema.obs {
        if fields.iter().any(|field| field.name() == name) {
            return Err(ParquetError::General(format!(
                "there are two columns `{name}`"
            )));
        }
        fields.push(annotation(name, *kind)?);
    }
    let fields = fields.into_iter().map(Arc::new).collect();
    let message = Type::group_type_builder("schema").with_fields(fields);
    Ok(Arc::new(message.build()?))
}

fn list(name: &str, element: Physical) -> Result<Type, ParquetError> {
    let element = Type::primitive_type_builder("element", element)
        .with_repetition(Repetition::REQUIRED)
        .build()?;
    let repeated = Type::group_type_builder("list")
        .with_repetition(Repetition::REPEATED)
        .with_fields(vec![Arc::new(element)])
        .build()?;
    Type::group_type_builder(name)
        .with_repetition(Repetition::REQUIRED)
        .with_logical_type(Some(LogicalType::List))
        .with_fields(vec![Arc::new(repeated)])
        .build()
}

fn annotation(name: &str, kind: Kind) -> Result<Type, ParquetError> {
    let (physical, logical) = match kind {
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Number => (Physical::DOUBLE, None),
        Kind::Boolean => (Physical::BOOLEAN, None),
    };
    Type::primitive_type_builder(name, physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(logical)
        .build()
}

/// The level of zstd: higher ones are slower and make values hardly smaller.
const LEVEL: i32 = 1;

fn zstd() -> Result<Compression, ParquetError> {
    Ok(Compression::ZSTD(ZstdLevel::try_new(LEVEL)?))
}

/// How every shard is written.
pub(super) fn properties() -> Result<WriterPropertiesPtr, ParquetError> {
    let id = ColumnPath::from(ID);
    let properties = WriterProperties::builder()
        .set_compression(zstd()?)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_column_dictionary_enabled(id.clone(), false)
        .set_column_encoding(id, Encoding::DELTA_BINARY_PACKED);
    Ok(Arc::new(properties.build()))
}

/// Where one column goes.
struct Destination<'a> {
    properties: WriterPropertiesPtr,
    descriptor: &'a SchemaDescriptor,
    position: usize,
}

impl Destination<'_> {
    fn write<T: DataType>(
        self,
        values: &[T::T],
        definitions: Option<&[i16]>,
    ) -> Result<Chunk, ParquetError> {
        let mut sink = TrackedWrite::new(Vec::new());
        let pages = Box::new(SerializedPageWriter::new(&mut sink));
        let column = self.descriptor.column(self.position);
        let writer = get_column_writer(column, self.properties, pages);
        let mut writer = get_typed_column_writer::<T>(writer);
        writer.write_batch(values, definitions, None)?;
        let close = writer.close()?;
        Ok((sink.into_inner()?.into(), close))
    }

    fn nullable<T: DataType>(self, entries: Vec<Option<T::T>>) -> Result<Chunk, ParquetError> {
        let definitions: Vec<i16> = entries.iter().map(|entry| entry.is_some().into()).collect();
        let values: Vec<T::T> = entries.into_iter().flatten().collect();
        self.write::<T>(&values, Some(&definitions))
    }

    fn annotate(self, column: &Column) -> Result<Chunk, ParquetError> {
        let bytes = |text: &str| ByteArray::from(text);
        match column {
            Column::Categorical {
                codes, categories, ..
            } => {
                let categories: Vec<ByteArray> =
                    categories.iter().map(|name| bytes(name)).collect();
                let label = |code: &Option<u32>| categories.get((*code)? as usize).cloned();
                self.nullable::<ByteArrayType>(codes.iter().map(label).collect())
            }
            Column::Text(texts) => {
                let texts = texts.iter().map(|text| text.as_deref().map(bytes));
                self.nullable::<ByteArrayType>(texts.collect())
            }
            Column::Number(numbers) => self.nullable::<DoubleType>(numbers.clone()),
            Column::Boolean(flags) => self.nullable::<BoolType>(flags.clone()),
        }
    }
}

//! The report as text.

use std::fmt;

use super::{Report, Use};
use crate::checkpoint::architecture::Architecture;
use crate::checkpoint::heads::Heads;

impl Use {
    fn description(self) -> &'static str {
        match self {
            Self::Embedding => "embedding cells, reference mapping",
            Self::GeneNetworks => "gene networks from gene embeddings or attention",
            Self::FineTuning => "start of fine-tuning",
            Self::Annotation => "annotation with its own classes",
            Self::AnnotationWithoutNames => {
                "annotation, once class names are supplied: the directory has none"
            }
            Self::Perturbation => "predicting perturbed expression",
            Self::Integration => "integration of the batches it was trained on",
            Self::MultiOmicIntegration => "multi-omic integration",
            Self::Pretraining => "continued pre-training",
            Self::Generation => "generating expression values",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "checkpoint    {}", self.directory.display())?;
        writeln!(
            f,
            "weights       {} ({:?})",
            self.weights_file.display(),
            self.format
        )?;
        writeln!(f, "naming        {}", self.naming)?;
        writeln!(f, "model         {:?}", self.model_class)?;
        let dtypes: Vec<_> = self
            .dtypes
            .iter()
            .map(|(dtype, count)| format!("{count} {dtype}"))
            .collect();
        writeln!(
            f,
            "tensors       {} ({}), {} parameters",
            self.tensors,
            dtypes.join(", "),
            self.parameters
        )?;
        if let Some(architecture) = &self.architecture {
            write_architecture(f, architecture)?;
        }
        if let Some(vocabulary) = &self.vocabulary {
            let specials: Vec<_> = vocabulary
                .specials
                .iter()
                .map(|(token, id)| format!("{token} {id}"))
                .collect();
            let specials = if specials.is_empty() {
                "no special tokens".into()
            } else {
                specials.join(", ")
            };
            writeln!(f, "vocabulary    {} tokens ({specials})", vocabulary.tokens)?;
        }
        write_list(f, "heads", &describe_heads(&self.heads))?;
        write_list(
            f,
            "can be used",
            &self
                .uses
                .iter()
                .map(|task| task.description().into())
                .collect::<Vec<_>>(),
        )?;
        write_list(f, "notes", &self.notes)?;
        write_list(f, "problems", &self.problems)
    }
}

fn write_architecture(f: &mut fmt::Formatter, architecture: &Architecture) -> fmt::Result {
    let Architecture {
        nlayers,
        embsize,
        nheads,
        d_hid,
        dropout,
        n_bins,
        input_emb_style,
        max_seq_len,
        ..
    } = architecture;
    writeln!(
        f,
        "architecture  {nlayers} layers, embedding dimension {embsize}, {nheads} heads, feed-forward dimension {d_hid}, dropout {dropout}"
    )?;
    let style = format!("{input_emb_style:?}").to_lowercase();
    writeln!(
        f,
        "input         {style} values, {n_bins} bins, sequences up to {max_seq_len}"
    )
}

fn write_list(f: &mut fmt::Formatter, title: &str, items: &[String]) -> fmt::Result {
    for (position, item) in items.iter().enumerate() {
        let title = if position == 0 { title } else { "" };
        writeln!(f, "{title:<14}{item}")?;
    }
    if items.is_empty() {
        writeln!(f, "{title:<14}none")
    } else {
        Ok(())
    }
}

fn describe_heads(heads: &Heads) -> Vec<String> {
    let given = |present: bool, text: &str| present.then(|| text.to_owned());
    let zero = if heads.zero_probability {
        " with zero probability"
    } else {
        ""
    };
    let lines = [
        heads
            .value_rows
            .map(|rows| format!("value table with {rows} rows")),
        given(heads.expression, &format!("expression decoder{zero}")),
        given(
            heads.affine_expression,
            &format!("affine expression decoder{zero}"),
        ),
        heads.mvc.map(|mvc| {
            let zero = if mvc.zero_probability {
                " with zero probability"
            } else {
                ""
            };
            format!("expression from the cell embedding ({:?}){zero}", mvc.style)
        }),
        heads.classes.map(|classes| match classes.outputs {
            1 => "classes: 1 output, never trained".to_owned(),
            outputs => format!("classes: {outputs}, {} dense layers", classes.layers),
        }),
        heads
            .discriminator
            .map(|batches| format!("discriminator of {} batches", batches.outputs)),
        heads
            .batch_labels
            .map(|batches| format!("embedding of {batches} batches")),
        heads.domain_norm.map(|norm| {
            let affine = if norm.affine { ", affine" } else { "" };
            format!(
                "domain-specific batch normalization, {} domains{affine}",
                norm.domains
            )
        }),
        given(
            heads.batch_norm,
            "plain batch normalization before the transformer",
        ),
        heads
            .modalities
            .map(|tokens| format!("embedding of {tokens} modality tokens")),
        given(heads.flag_encoder, "flag encoder of pre-training"),
        heads
            .perturbation_flags
            .map(|rows| format!("perturbation flags, {rows} rows")),
    ];
    lines.into_iter().flatten().collect()
}

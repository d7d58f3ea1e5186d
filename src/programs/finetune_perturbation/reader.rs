//! Training examples of perturbed cells: pseudobulks, matched control profiles and perturbation tokens.

use std::collections::BTreeMap;

use anyhow::Result;

use super::Options;
use super::data::Data;
use crate::analysis::projection::Pca;
use crate::cells::controls::{Pairing, nearest};
use crate::model::PerturbedCell;
use crate::predict::Workers;
use crate::predict::perturbation::{Controls, PerturbedGene, ProfileReader};
use crate::programs::perturbation_data;
use crate::random::{self, Seed};
use crate::split::perturbations::Part;
use crate::train::perturbation::Example;

/// Makes training examples of cells.
pub struct Reader {
    pub profiles: ProfileReader,
    pairing: Pairing,
    pseudobulk_size: usize,
    max_length: usize,
    keep_perturbed: bool,
    seed: Seed,
    /// Perturbed genes of every condition, for a dose of 1.
    perturbed: Vec<Vec<PerturbedGene>>,
    /// Mean control profile of every stratum.
    means: BTreeMap<u32, Vec<f32>>,
    /// Most similar control of every cell, for control matching by similarity.
    nearest: Option<BTreeMap<usize, usize>>,
    /// Cells of every condition, none for control, and stratum.
    groups: Vec<Group>,
    /// Pseudobulks, the training units: some cells of a group, others in every epoch.
    units: Vec<Unit>,
}

/// Cells of the same condition and stratum.
struct Group {
    condition: Option<usize>,
    stratum: u32,
    cells: Vec<usize>,
}

/// A pseudobulk of a group.
struct Unit {
    group: usize,
    /// Number of pseudobulks of the group before it.
    at: usize,
}

impl Reader {
    pub fn new(options: &Options, data: &Data) -> Result<Self> {
        let id = |gene: &String| i64::from(data.vocabulary.id(gene).unwrap_or(0));
        let perturbed = |condition: &super::data::Condition| {
            let perturbed = perturbation_data::perturbed_genes(
                &condition.perturbation,
                &data.vocabulary,
                (options.labels.activation, 1.0),
            );
            perturbed.map_err(|unknown| perturbation_data::unknown_genes(&unknown, &data.genes))
        };
        let strata: std::collections::BTreeSet<u32> = data.strata.iter().copied().collect();
        let mean = |&stratum: &u32| {
            let mean = perturbation_data::mean(&data.counts, data.controls.of(stratum));
            (
                stratum,
                mean.into_iter().map(|value| value as f32).collect(),
            )
        };
        let groups = groups(data);
        let parts = |group: usize| {
            let parts = groups[group].cells.len().div_ceil(options.pseudobulk_size);
            (0..parts).map(move |at| Unit { group, at })
        };
        let units = (0..groups.len()).flat_map(parts).collect();
        Ok(Self {
            profiles: ProfileReader {
                ids: data.genes.iter().map(id).collect(),
                contrast: options.contrast,
            },
            pairing: options.control_matching,
            pseudobulk_size: options.pseudobulk_size,
            max_length: options.max_length,
            keep_perturbed: options.keep_perturbed,
            seed: Seed(options.seed),
            perturbed: data
                .conditions
                .iter()
                .map(perturbed)
                .collect::<Result<_>>()?,
            means: strata.iter().map(mean).collect(),
            nearest: match options.control_matching {
                Pairing::Nearest => Some(partners(data)?),
                _ => None,
            },
            groups,
            units,
        })
    }

    /// Training units, control included, and validation units.
    pub fn parts(&self, data: &Data) -> (Vec<usize>, Vec<usize>) {
        let part = |condition: Option<usize>| condition.map(|at| data.conditions[at].part);
        (
            self.units(|condition| part(condition).is_none_or(|part| part == Part::Training)),
            self.units(|condition| part(condition) == Some(Part::Validation)),
        )
    }

    /// Units of the wanted conditions or of control.
    fn units(&self, is_wanted: impl Fn(Option<usize>) -> bool) -> Vec<usize> {
        let is_wanted = |unit: &usize| is_wanted(self.groups[self.units[*unit].group].condition);
        (0..self.units.len()).filter(is_wanted).collect()
    }

    /// The example of a unit in an epoch, or for validation: a function of the two and the seed alone.
    pub fn example(&self, data: &Data, unit: usize, epoch: Option<u64>) -> Example {
        let example = self.whole(data, unit, epoch);
        let n = example.cell.genes.len();
        if n <= self.max_length {
            return example;
        }
        let mut stream = self
            .seed
            .stream("genes of a cell", &[draw(epoch), unit as u64]);
        let is_kept = |at: &usize| example.cell.flags[*at] != 0 && self.keep_perturbed;
        let (kept, others): (Vec<usize>, Vec<usize>) = (0..n).partition(is_kept);
        let free = self.max_length.saturating_sub(kept.len());
        let drawn = random::sample(&mut stream, others.len(), free);
        let mut chosen: Vec<usize> = drawn.into_iter().map(|at| others[at]).collect();
        chosen.extend(kept);
        chosen.sort_unstable();
        select(&example, &chosen)
    }

    /// The same with all genes.
    pub fn whole(&self, data: &Data, unit: usize, epoch: Option<u64>) -> Example {
        let draw = draw(epoch);
        let (group, cells) = self.cells(unit, draw);
        let profile = self.profile(data, (cells[0], group.stratum), draw);
        let dose = data.doses.as_ref().map_or(1.0, |doses| {
            cells.iter().map(|&cell| doses[cell]).sum::<f32>() / cells.len() as f32
        });
        let perturbed = group
            .condition
            .map_or(&[][..], |condition| &self.perturbed[condition]);
        let perturbed: Vec<PerturbedGene> = perturbed
            .iter()
            .map(|perturbed| PerturbedGene { dose, ..*perturbed })
            .collect();
        let cell = self.profiles.cell(&profile, &perturbed);
        let mean = perturbation_data::mean(&data.counts, &cells);
        let mut targets: Vec<f32> = mean.into_iter().map(|value| value as f32).collect();
        let mut known = vec![1.0; targets.len()];
        // Perturbed genes that are not measured have no target.
        targets.resize(cell.genes.len(), 0.0);
        known.resize(cell.genes.len(), 0.0);
        Example {
            cell,
            targets,
            known,
        }
    }

    /// The cells of a unit: over an epoch, each cell of a group is in one.
    fn cells(&self, unit: usize, draw: u64) -> (&Group, Vec<usize>) {
        let Unit { group: number, at } = self.units[unit];
        let group = &self.groups[number];
        let mut stream = self.seed.stream("cells of a mean", &[draw, number as u64]);
        let order = random::permutation(&mut stream, group.cells.len());
        let size = self.pseudobulk_size;
        let own = order.into_iter().skip(at * size).take(size);
        let mut cells: Vec<usize> = own.map(|i| group.cells[i]).collect();
        cells.sort_unstable();
        (group, cells)
    }

    /// Unperturbed expression of a cell, by control matching.
    fn profile(&self, data: &Data, (cell, stratum): (usize, u32), draw: u64) -> Vec<f32> {
        let partner = match (self.pairing, &self.nearest) {
            (Pairing::Mean, _) => return self.means[&stratum].clone(),
            (Pairing::Nearest, Some(nearest)) => nearest[&cell],
            _ => data.controls.random(cell as u64, stratum, draw, self.seed),
        };
        perturbation_data::dense(&data.counts, partner)
    }

    /// Perturbed genes of a condition.
    pub fn perturbed(&self, condition: usize) -> &[PerturbedGene] {
        &self.perturbed[condition]
    }

    /// Mean change of every gene for some conditions, `[conditions][genes]`.
    pub fn changes(
        &self,
        mut workers: Workers,
        controls: &Controls,
        conditions: &[usize],
    ) -> Vec<Vec<f32>> {
        let genes = conditions.iter().map(|&at| self.perturbed[at].clone());
        let genes: Vec<Vec<PerturbedGene>> = genes.collect();
        self.profiles.changes(&mut workers, controls, &genes)
    }

    /// Profiles from which perturbations are predicted.
    pub fn controls(&self, options: &Options, data: &Data) -> Controls {
        let cells = &data.control_cells;
        if self.pairing == Pairing::Mean {
            return perturbation_data::mean_controls(&data.counts, cells, &data.strata);
        }
        perturbation_data::drawn_controls(&data.counts, (cells, options.controls), self.seed)
    }
}

/// Cells of perturbations and controls by condition and stratum.
fn groups(data: &Data) -> Vec<Group> {
    let mut groups: BTreeMap<(Option<usize>, u32), Vec<usize>> = BTreeMap::new();
    let cells = data.conditions.iter().flat_map(|c| c.cells.iter());
    for &cell in cells.chain(&data.control_cells) {
        let key = (data.condition_of[cell], data.strata[cell]);
        groups.entry(key).or_default().push(cell);
    }
    let group = |((condition, stratum), cells)| Group {
        condition,
        stratum,
        cells,
    };
    groups.into_iter().map(group).collect()
}

/// Number of the random choices of an epoch; 0 is that of validation.
fn draw(epoch: Option<u64>) -> u64 {
    epoch.map_or(0, |epoch| epoch + 1)
}

fn select(example: &Example, chosen: &[usize]) -> Example {
    fn pick<T: Copy>(from: &[T], chosen: &[usize]) -> Vec<T> {
        chosen.iter().map(|&at| from[at]).collect()
    }
    let cell = &example.cell;
    Example {
        cell: PerturbedCell {
            genes: pick(&cell.genes, chosen),
            values: pick(&cell.values, chosen),
            flags: pick(&cell.flags, chosen),
            doses: pick(&cell.doses, chosen),
        },
        targets: pick(&example.targets, chosen),
        known: pick(&example.known, chosen),
    }
}

/// The most similar control of every cell, in principal components of the genes that were not perturbed.
fn partners(data: &Data) -> Result<BTreeMap<usize, usize>> {
    let targets = data.conditions.iter().flat_map(|c| c.perturbation.genes());
    let targets: std::collections::HashSet<&str> = targets.collect();
    let is_other = |gene: &usize| !targets.contains(data.genes[*gene].as_str());
    let others: Vec<usize> = (0..data.genes.len()).filter(is_other).collect();
    let cells = data.counts.select_genes(&others).to_dense();
    let pca = Pca::fit(cells.view(), 50)?;
    let coordinates = pca.transform(cells.view())?;
    let mut all = data.cells_of(|_| true);
    all.extend(&data.control_cells);
    let found = nearest(coordinates.view(), &all, &data.controls, &data.strata);
    Ok(all.into_iter().zip(found).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::controls::Controls as ControlCells;
    use crate::cells::perturbation::Spelling;
    use crate::counts::Counts;
    use crate::programs::finetune_perturbation::data::Condition;
    use crate::vocabulary::Vocabulary;

    const GENES: usize = 60;
    const CELLS: usize = 40;

    /// Forty cells of each of three perturbations, and as many control cells.
    fn data() -> Data {
        let genes: Vec<String> = (0..GENES).map(|gene| format!("G{gene}")).collect();
        let row =
            |cell: usize| (0..GENES).map(move |gene| (gene as u32, ((gene + cell) % 5) as f32));
        let condition = |(at, label): (usize, &str)| Condition {
            perturbation: Spelling::default().parse(label).expect("a perturbation"),
            cells: ((at + 1) * CELLS..(at + 2) * CELLS).collect(),
            part: Part::Training,
        };
        let control_cells: Vec<usize> = (0..CELLS).collect();
        let strata = vec![0; 4 * CELLS];
        Data {
            counts: Counts::from_rows(GENES, (0..4 * CELLS).map(row)),
            conditions: ["G3", "G5+G7", "G59"]
                .into_iter()
                .enumerate()
                .map(condition)
                .collect(),
            condition_of: (0..4 * CELLS)
                .map(|cell| (cell / CELLS).checked_sub(1))
                .collect(),
            controls: ControlCells::new(&control_cells, &strata).expect("control cells"),
            control_cells,
            strata,
            doses: None,
            vocabulary: Vocabulary::from_genes(genes.iter().cloned()).expect("a vocabulary"),
            genes,
            checkpoint: None,
        }
    }

    /// Fraction of the training examples of perturbed cells in an epoch that have all their flags.
    fn flagged(keep_perturbed: bool) -> f64 {
        let data = data();
        let options = Options {
            keep_perturbed,
            pseudobulk_size: 1,
            max_length: 15,
            control_matching: Pairing::Random,
            ..Options::default()
        };
        let reader = Reader::new(&options, &data).expect("a reader");
        let units = reader.units(|condition| condition.is_some());
        assert_eq!(units.len(), 3 * CELLS);
        let has_flags = |unit: &&usize| {
            let example = reader.example(&data, **unit, Some(0));
            assert_eq!((example.cell.genes.len(), example.targets.len()), (15, 15));
            let condition = reader.groups[reader.units[**unit].group].condition;
            let wanted = reader.perturbed[condition.expect("perturbed")].len();
            example.cell.flags.iter().filter(|flag| **flag != 0).count() == wanted
        };
        units.iter().filter(has_flags).count() as f64 / units.len() as f64
    }

    #[test]
    fn no_perturbed_cell_loses_its_flag() {
        assert_eq!(flagged(true), 1.0);
        // The option of the original implementation, kept for comparison, loses most (docs/methods.md, "Perturbation prediction").
        let kept = flagged(false);
        assert!(kept < 0.4, "{kept}");
    }

    #[test]
    fn an_epoch_reads_every_cell_once() {
        let data = data();
        let options = Options {
            pseudobulk_size: 7,
            ..Options::default()
        };
        let reader = Reader::new(&options, &data).expect("a reader");
        let seen = |epoch| {
            let cells = (0..reader.units.len()).flat_map(|unit| reader.cells(unit, draw(epoch)).1);
            cells.collect::<Vec<usize>>()
        };
        let (first, second) = (seen(Some(0)), seen(Some(1)));
        assert_ne!(first, second);
        for mut cells in [first, second] {
            cells.sort_unstable();
            assert_eq!(cells, (0..4 * CELLS).collect::<Vec<_>>());
        }
    }
}

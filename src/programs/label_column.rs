//! obs column with the labels that a program assigns to cells.

use crate::formats::Column;

/// Label of a cell to which no label is assigned.
pub const UNASSIGNED: &str = "unassigned";

/// The class of each cell, or [`UNASSIGNED`], a separate category unless a class already has that name.
pub fn column(classes: &[String], given: impl Iterator<Item = Option<usize>>) -> Column {
    let mut categories = classes.to_vec();
    let named = categories.iter().position(|class| class == UNASSIGNED);
    let unassigned = named.unwrap_or_else(|| {
        categories.push(UNASSIGNED.to_owned());
        classes.len()
    });
    Column::Categorical {
        codes: given
            .map(|class| Some(class.unwrap_or(unassigned) as u32))
            .collect(),
        categories,
        ordered: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_called_unassigned_is_not_added_twice() {
        let given = [Some(1), None, Some(0)];
        for (classes, codes, categories) in [
            (["B", "T"], [1, 2, 0], &["B", "T", "unassigned"][..]),
            (["B", "unassigned"], [1, 1, 0], &["B", "unassigned"][..]),
        ] {
            let expected = Column::Categorical {
                codes: codes.map(Some).to_vec(),
                categories: categories.iter().map(|&name| name.to_owned()).collect(),
                ordered: false,
            };
            let found = column(&classes.map(str::to_owned), given.into_iter());
            assert_eq!(found, expected);
        }
    }
}

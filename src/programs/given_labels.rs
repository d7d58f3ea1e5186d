//! The column of obs with the labels that a program gives to cells.

use crate::formats::Column;

/// What a cell is called that is given no label.
pub const UNASSIGNED: &str = "unassigned";

/// One entry for each cell: its class, or [`UNASSIGNED`], which is a category of its own unless a class has that name already.
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
    fn a_class_called_unassigned_is_no_second_category() {
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

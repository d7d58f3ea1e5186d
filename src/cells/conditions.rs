//! Filter expressions on columns of obs, as in `disease == normal`.

use std::str::FromStr;

use crate::formats::Column;

/// Comparison of an annotation with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Unequal,
    AtLeast,
    AtMost,
    Above,
    Below,
}

/// Longer signs first, so that `>=` is not taken for `>`.
const SIGNS: [(&str, Comparison); 6] = [
    ("==", Comparison::Equal),
    ("!=", Comparison::Unequal),
    (">=", Comparison::AtLeast),
    ("<=", Comparison::AtMost),
    (">", Comparison::Above),
    ("<", Comparison::Below),
];

/// One condition. A missing annotation fulfills no condition except `!=`.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub column: String,
    comparison: Comparison,
    /// Any of these for `==`, none of these for `!=`; a single number otherwise.
    values: Vec<String>,
}

/// Whether a text contains a comparison.
pub fn has_sign(text: &str) -> bool {
    SIGNS.iter().any(|(sign, _)| text.contains(sign))
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            "expected COLUMN == VALUE (or !=, >=, <=, >, <; several values with | between them)";
        let found = SIGNS
            .iter()
            .filter_map(|(sign, comparison)| Some((text.find(sign)?, sign, *comparison)))
            .min_by_key(|&(at, sign, _)| (at, std::cmp::Reverse(sign.len())));
        let Some((at, sign, comparison)) = found else {
            return Err(format!("`{text}` is not a condition: {expected}"));
        };
        let unquoted = |part: &str| part.trim().trim_matches(['"', '\'']).to_owned();
        let (column, rest) = (unquoted(&text[..at]), &text[at + sign.len()..]);
        let values: Vec<String> = rest.split('|').map(unquoted).collect();
        let is_ordered = !matches!(comparison, Comparison::Equal | Comparison::Unequal);
        if column.is_empty()
            || (is_ordered && (values.len() > 1 || values[0].parse::<f64>().is_err()))
        {
            return Err(format!("`{text}` is not a condition: {expected}"));
        }
        Ok(Self {
            column,
            comparison,
            values,
        })
    }
}

impl Condition {
    /// Which cells fulfill the condition on its column.
    pub fn each(&self, column: &Column) -> Vec<bool> {
        if let (Column::Number(numbers), Ok(bounds)) = (column, self.numbers()) {
            let fulfils = |number: &Option<f64>| match number {
                Some(number) => self.holds(|bound| number.partial_cmp(bound), &bounds),
                None => self.comparison == Comparison::Unequal,
            };
            return numbers.iter().map(fulfils).collect();
        }
        let fulfils = |label: Option<String>| match (label, self.numbers()) {
            (None, _) => self.comparison == Comparison::Unequal,
            (Some(label), Ok(bounds)) if self.is_ordered() => {
                let number = label.parse::<f64>();
                number.is_ok_and(|number| self.holds(|bound| number.partial_cmp(bound), &bounds))
            }
            (Some(label), _) => self.holds(|value: &String| Some(label.cmp(value)), &self.values),
        };
        column.to_labels().into_iter().map(fulfils).collect()
    }

    fn is_ordered(&self) -> bool {
        !matches!(self.comparison, Comparison::Equal | Comparison::Unequal)
    }

    fn numbers(&self) -> Result<Vec<f64>, std::num::ParseFloatError> {
        self.values.iter().map(|value| value.parse()).collect()
    }

    fn holds<V>(&self, compare: impl Fn(&V) -> Option<std::cmp::Ordering>, values: &[V]) -> bool {
        let any = |holds: fn(std::cmp::Ordering) -> bool| {
            values.iter().any(|value| compare(value).is_some_and(holds))
        };
        match self.comparison {
            Comparison::Equal => any(|order| order.is_eq()),
            Comparison::Unequal => !any(|order| order.is_eq()),
            Comparison::AtLeast => any(|order| order.is_ge()),
            Comparison::AtMost => any(|order| order.is_le()),
            Comparison::Above => any(|order| order.is_gt()),
            Comparison::Below => any(|order| order.is_lt()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz_mutations;

    #[test]
    fn any_text_is_a_condition_or_rejected() {
        let numbers = Column::Number(vec![Some(4.0), None, Some(-1.5)]);
        for text in [
            "disease == normal | \"no, none\"",
            "n_genes >= 200",
            "été != 'x'",
        ] {
            fuzz_mutations::each(text.as_bytes(), |bytes| {
                let text = String::from_utf8_lossy(bytes);
                match text.parse::<Condition>() {
                    Ok(condition) => assert_eq!(condition.each(&numbers).len(), 3),
                    Err(problem) => assert!(problem.contains("is not a condition"), "{problem}"),
                }
            });
        }
    }

    fn holds(condition: &str, column: &Column) -> Vec<bool> {
        condition.parse::<Condition>().unwrap().each(column)
    }

    #[test]
    fn labels_numbers_and_missing_values_are_compared_as_a_reader_expects() {
        let tissue = Column::Text(
            ["lung", "heart", "blood"]
                .map(|t| Some(t.to_owned()))
                .to_vec(),
        );
        assert_eq!(holds("tissue == lung|blood", &tissue), [true, false, true]);
        assert_eq!(holds("tissue != 'lung'", &tissue), [false, true, true]);
        let age = Column::Number(vec![Some(10.0), None, Some(2.0)]);
        assert_eq!(holds("age >= 3", &age), [true, false, false]);
        assert_eq!(holds("age == 2.0", &age), [false, false, true]);
        assert_eq!(holds("age != 2", &age), [true, true, false]);
        let primary = Column::Boolean(vec![Some(true), Some(false), None]);
        assert_eq!(
            holds("is_primary_data==True", &primary),
            [true, false, false]
        );
        // Numbers that were stored as text.
        let text = Column::from_labels(&[Some("12"), Some("9"), Some("x")]);
        assert_eq!(holds("n > 9", &text), [true, false, false]);
    }

    #[test]
    fn what_is_no_condition_is_rejected() {
        for text in ["disease", "== normal", "age > old", "age > 1|2"] {
            assert!(text.parse::<Condition>().is_err(), "{text}");
        }
        let odd = "a<b == c".parse::<Condition>();
        assert!(odd.is_err() || odd.unwrap().column == "a");
    }
}

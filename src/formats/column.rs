//! Annotations of cells and genes: categories, text, numbers and booleans.

/// A column of annotations, one entry for each cell or gene.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Labels from a list of categories; a code is a position in the list.
    Categorical {
        codes: Vec<Option<u32>>,
        categories: Vec<String>,
        ordered: bool,
    },
    /// Free text.
    Text(Vec<Option<String>>),
    /// Numbers of any stored type; whole numbers beyond 2^53 are rounded, NaN counts as missing.
    Number(Vec<Option<f64>>),
    /// Booleans.
    Boolean(Vec<Option<bool>>),
}

impl Column {
    /// A categorical column of the given labels, with the categories in alphabetical order.
    pub fn from_labels<S: AsRef<str>>(labels: &[Option<S>]) -> Self {
        let mut categories: Vec<&str> = labels.iter().flatten().map(AsRef::as_ref).collect();
        categories.sort_unstable();
        categories.dedup();
        let code = |label: &Option<S>| {
            let position = categories
                .binary_search(&label.as_ref()?.as_ref())
                .expect("every label is among the categories");
            Some(position as u32)
        };
        let codes = labels.iter().map(code).collect();
        Self::Categorical {
            codes,
            categories: categories.into_iter().map(str::to_owned).collect(),
            ordered: false,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Categorical { codes, .. } => codes.len(),
            Self::Text(texts) => texts.len(),
            Self::Number(numbers) => numbers.len(),
            Self::Boolean(flags) => flags.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One entry as text.
    pub fn label(&self, at: usize) -> Option<String> {
        match self {
            Self::Categorical {
                codes, categories, ..
            } => codes[at].map(|code| categories[code as usize].clone()),
            Self::Text(texts) => texts[at].clone(),
            Self::Number(numbers) => numbers[at].map(|number| number.to_string()),
            Self::Boolean(flags) => {
                flags[at].map(|flag| if flag { "True" } else { "False" }.to_owned())
            }
        }
    }

    /// One entry of a column of numbers.
    pub fn number(&self, at: usize) -> Option<f64> {
        match self {
            Self::Number(numbers) => numbers[at],
            _ => None,
        }
    }

    /// One entry of a column of booleans.
    pub fn flag(&self, at: usize) -> Option<bool> {
        match self {
            Self::Boolean(flags) => flags[at],
            _ => None,
        }
    }

    /// Every entry as text: category, text, shortest number, `True` or `False`.
    pub fn to_labels(&self) -> Vec<Option<String>> {
        (0..self.len()).map(|at| self.label(at)).collect()
    }
}

//! Fits texts into the available space.

use super::canvas::printable;

/// Upper bound of the width in pixels for common sans-serif fonts and for scripts with wide letters.
pub fn width(text: &str, size: f64) -> i32 {
    text.chars()
        .map(|letter| advance(letter, size))
        .sum::<f64>()
        .ceil() as i32
}

/// The text without characters that SVG does not allow, and without its middle if it is wider than `limit` pixels.
pub fn fitted(text: &str, limit: i32, size: f64) -> String {
    let letters: Vec<char> = printable(text).chars().collect();
    if letters
        .iter()
        .map(|&letter| advance(letter, size))
        .sum::<f64>()
        <= f64::from(limit)
    {
        return letters.into_iter().collect();
    }
    let (mut left, mut right) = (0, letters.len());
    let mut space = f64::from(limit) - advance('…', size);
    while left < right {
        let next = if left + right <= letters.len() {
            left
        } else {
            right - 1
        };
        space -= advance(letters[next], size);
        if space < 0.0 {
            break;
        }
        (left, right) = if next == left {
            (left + 1, right)
        } else {
            (left, right - 1)
        };
    }
    letters[..left]
        .iter()
        .chain(&['…'])
        .chain(&letters[right..])
        .collect()
}

fn advance(letter: char, size: f64) -> f64 {
    // From Hangul on, most scripts have square characters.
    let ems = match letter {
        'i' | 'j' | 'l' | 'I' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' => 0.36,
        ' ' | 'f' | 'r' | 't' | '-' | '(' | ')' | '[' | ']' | '/' => 0.42,
        'M' | 'W' | 'm' | 'w' | '@' | '%' | '…' => 0.95,
        'A'..='Z' => 0.72,
        '\0'..'\u{1100}' | '\u{1E00}'..='\u{2BFF}' => 0.6,
        _ => 1.05,
    };
    ems * size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_lose_their_middle() {
        assert_eq!(fitted("CD4+ T cell", 100, 12.0), "CD4+ T cell");
        let cut = fitted(&"abcdefghij".repeat(1000), 100, 12.0);
        assert!(
            cut.starts_with("abc") && cut.ends_with("hij") && cut.contains('…'),
            "{cut}"
        );
        for text in ["x".repeat(500), "漢".repeat(500), "שלום עולם ".repeat(50)] {
            let cut = fitted(&text, 100, 12.0);
            assert!(width(&cut, 12.0) <= 100 && width(&cut, 12.0) > 70, "{cut}");
        }
        assert_eq!(fitted("a\u{0}\nb", 100, 12.0), "ab");
        assert_eq!(fitted("abc", 0, 12.0), "…");
        assert_eq!(fitted("", 0, 12.0), "");
    }
}

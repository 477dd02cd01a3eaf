//! Short tables for people, in colour where a terminal shows it.

use std::io::IsTerminal;

/// Colours, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paint(bool);

/// What a colour means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As it should be.
    Good,
    /// Under way, or worth a look.
    Fair,
    /// Broken.
    Bad,
    /// Beside the point.
    Quiet,
    /// A heading.
    Strong,
}

impl Paint {
    /// Colour if stdout is a terminal that shows it and nobody asked for none (NO_COLOR).
    pub fn detect() -> Paint {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Paint(std::io::stdout().is_terminal() && !unwanted && !dumb)
    }

    /// No colour.
    pub fn none() -> Paint {
        Paint(false)
    }

    /// Colour, whatever reads it.
    pub fn always() -> Paint {
        Paint(true)
    }

    /// A text in a colour.
    pub fn text(self, mood: Mood, text: &str) -> String {
        let code = match mood {
            Mood::Good => "32",
            Mood::Fair => "33",
            Mood::Bad => "31",
            Mood::Quiet => "2",
            Mood::Strong => "1",
        };
        if self.0 && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A table: columns as wide as they need to be.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<(String, Option<Mood>)>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Table {
        let headings = headings.iter().map(|heading| ((*heading).to_owned(), Some(Mood::Strong))).collect();
        Table { rows: vec![headings] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<(String, Option<Mood>)>) {
        self.rows.push(cells.into_iter().map(|(cell, mood)| (clean(&cell), mood)).collect());
    }

    /// The table as text, a line per row.
    pub fn text(&self, paint: Paint) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|at| {
                self.rows.iter().filter_map(|row| row.get(at)).map(|it| width(&it.0)).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            for (at, (cell, mood)) in row.iter().enumerate() {
                text.push_str(&mood.map_or_else(|| cell.clone(), |mood| paint.text(mood, cell)));
                if at + 1 < row.len() {
                    let gap = widths.get(at).copied().unwrap_or(0).saturating_sub(width(cell)) + 2;
                    text.extend(std::iter::repeat_n(' ', gap));
                }
            }
            while text.ends_with(' ') {
                text.pop();
            }
            text.push('\n');
        }
        text
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// A text without what a terminal would obey: control characters, and those that turn the direction of
/// writing.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if obeyed(c) { '\u{fffd}' } else { c }).collect()
}

/// The same for several lines.
pub fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

fn obeyed(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["line", "state"]);
        table.row(vec![("office".into(), None), ("registered".into(), Some(Mood::Good))]);
        table.row(vec![("ü".into(), None), (String::new(), None)]);
        assert_eq!(table.text(Paint::none()), "line    state\noffice  registered\nü\n");
        let painted = table.text(Paint::always());
        assert!(painted.contains("office  \x1b[32mregistered\x1b[0m\n"), "{painted:?}");
    }

    #[test]
    fn what_a_stranger_calls_itself_does_not_paint_the_terminal() {
        let mut table = Table::new(&["name"]);
        table.row(vec![("\x1b[2J\x07evil\n\u{202e}".into(), None)]);
        let text = table.text(Paint::none());
        assert_eq!(text, "name\n\u{fffd}[2J\u{fffd}evil\u{fffd}\u{fffd}\n");
    }
}

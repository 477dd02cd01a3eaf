//! The table.

/// One row: our figure, the other's, what is to be reached and what the newest of the field were measured at.
#[derive(Clone)]
pub struct Row {
    pub what: String,
    pub ours: String,
    pub theirs: String,
    pub target: String,
    pub reached: Option<bool>,
    pub field: String,
}

/// Prints a Markdown table with even columns.
pub fn print(rows: &[Row]) {
    let head = ["", "tipring", "baresip here", "to reach", "reached", "field, for memory"].map(str::to_owned);
    let lines: Vec<[String; 6]> = std::iter::once(head)
        .chain(rows.iter().map(|row| {
            let reached = match row.reached {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "–",
            };
            [&row.what, &row.ours, &row.theirs, &row.target, reached, &row.field]
                .map(|text| String::from(text as &str))
        }))
        .collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    for (number, line) in lines.iter().enumerate() {
        let cells = line.iter().zip(widths).map(|(text, width)| format!(" {text:<width$} |"));
        println!("|{}", cells.collect::<String>());
        if number == 0 {
            println!("|{}", widths.map(|width| format!("{}|", "-".repeat(width + 2))).concat());
        }
    }
}

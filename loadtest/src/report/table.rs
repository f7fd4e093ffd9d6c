//! Aligned tables for terminals.

/// Rows under headings: the first column to the left, the others to the right.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these headings.
    pub fn new(headings: impl IntoIterator<Item = impl Into<String>>) -> Table {
        Table { rows: vec![headings.into_iter().map(Into::into).collect()] }
    }

    /// Adds a row; it has as many cells as there are headings.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        let row: Vec<String> = cells.into_iter().map(Into::into).collect();
        debug_assert_eq!(row.len(), self.rows[0].len());
        self.rows.push(row);
    }

    /// Takes columns out in which no row says anything.
    pub fn without_empty_columns(mut self) -> Table {
        let columns = self.rows[0].len();
        let says =
            |column: usize| self.rows.iter().skip(1).any(|row| row[column] != "-" && !row[column].is_empty());
        let kept: Vec<bool> = (0..columns).map(|column| column == 0 || says(column)).collect();
        for row in &mut self.rows {
            let mut kept = kept.iter();
            row.retain(|_| *kept.next().expect("a flag for each column"));
        }
        self
    }

    /// The lines: the heading, a rule, the rows.
    pub fn lines(&self) -> Vec<String> {
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.rows[0].len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).enumerate().map(|(place, (cell, width))| match place {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let mut lines: Vec<String> = self.rows.iter().map(line).collect();
        let rule = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
        lines.insert(1, "-".repeat(rule));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_by_characters_and_empty_ones_go() {
        let mut table = Table::new(["run", "p50", "sessions", "max"]);
        table.row(["pingpong", "12 µs", "-", "1.5 ms"]);
        table.row(["a", "9 s", "-", "-"]);
        let lines = table.without_empty_columns().lines();
        assert_eq!(
            lines,
            [
                "run         p50     max",
                "-----------------------",
                "pingpong  12 µs  1.5 ms",
                "a           9 s       -",
            ]
        );
    }
}

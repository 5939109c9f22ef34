//! Rows under headers, without borders, so that they can be cut and searched; on a narrow terminal a block for each,
//! so that an id can be copied.

use std::io::IsTerminal as _;

use comfy_table::ContentArrangement;
use mayfly_client::failure::clean;

/// Spaces after a column.
const GAP: usize = 2;
/// The least width that a column beside the first one can be read at.
const COLUMN_MIN: usize = 12;

/// Many things of one kind.
pub(crate) struct Table {
    headers: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    empty: &'static str,
}

impl Table {
    /// A table; `empty` is said in place of one without rows.
    pub(crate) fn new<const N: usize>(
        headers: [&'static str; N],
        rows: impl IntoIterator<Item = [String; N]>,
        empty: &'static str,
    ) -> Self {
        let rows = rows.into_iter().map(|row| row.map(|cell| clean(&cell, 512)).to_vec()).collect();
        Self { headers: headers.to_vec(), rows, empty }
    }

    /// Whether a terminal of this width would break what people copy: the rows do not fit, and beside a whole
    /// first column the others would be left with next to nothing.
    fn is_cramped(&self, width: usize) -> bool {
        let widest = |n: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(n)).map(|cell| cell.chars().count());
            cells.chain(self.headers.get(n).map(|h| h.len())).max().unwrap_or_default() + GAP
        };
        let all: usize = (0..self.headers.len()).map(widest).sum();
        let others = self.headers.len().saturating_sub(1);
        all > width + GAP && width.saturating_sub(widest(0)) < others * COLUMN_MIN
    }

    /// One line for each cell, and an empty line between the rows.
    fn stacked(&self) -> String {
        let widest = self.headers.iter().map(|h| h.len()).max().unwrap_or_default();
        let row = |row: &Vec<String>| -> String {
            let filled = self.headers.iter().zip(row).filter(|(_, cell)| !cell.is_empty());
            filled.map(|(name, cell)| format!("{name:widest$}  {cell}\n")).collect()
        };
        self.rows.iter().map(row).collect::<Vec<_>>().join("\n")
    }

    pub(super) fn rendered(&self, width: Option<u16>) -> String {
        if self.rows.is_empty() {
            return format!("{}\n", self.empty);
        }
        if width.is_some_and(|width| self.is_cramped(usize::from(width))) {
            return self.stacked();
        }
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(self.headers.iter().map(|h| h.to_uppercase()));
        table.add_rows(&self.rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        match width {
            Some(width) => table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width),
            // Into a file or a pipe, a thing stays on its line however long it is.
            None => table.set_content_arrangement(ContentArrangement::Disabled),
        };
        let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n") + "\n"
    }
}

/// The terminal's width, where standard output is one.
pub(super) fn width() -> Option<u16> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| size.ws_col).filter(|w| *w >= 40)
}

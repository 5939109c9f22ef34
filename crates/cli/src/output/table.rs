//! Rows under headers, without borders, so that they can be cut and searched.

use std::io::IsTerminal as _;

use comfy_table::ContentArrangement;
use mayfly_client::failure::clean;

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

    pub(super) fn rendered(&self, width: Option<u16>) -> String {
        if self.rows.is_empty() {
            return format!("{}\n", self.empty);
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

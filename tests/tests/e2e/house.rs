//! The house keeps its own word: what the documents say of the repository is held against it.

mod bans;
mod console;
mod dockerfile;
mod evidence;
mod generated;
mod make;
mod page;
mod rooms;
mod tracked;

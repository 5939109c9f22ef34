//! The broker's own sealed copy of what must outlive the store: keys, blocks, the generation it last saw.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use mayfly_domain::{Gate, Generation, Reason, Refusal, Secret, Subject};
use mayfly_lease::{Carry, Survey};
use mayfly_mint::Seal;

const PURPOSE: &str = "copy";
const FILE: &str = "copy.sealed";

/// What the copy holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Content {
    /// The generation that was last adopted.
    pub generation: Option<Generation>,
    /// The longest life that it was made with, in ms.
    pub longest_life_ms: u64,
    /// The highest change number that was seen in it.
    pub changes: u64,
    /// The sealed keys with their version.
    pub keys: Option<(u64, Vec<u8>)>,
    /// Every block that was not lifted, with its version; of lifted ones the version alone, so that no older
    /// copy brings them back.
    pub blocks: Vec<(Subject, Gate)>,
}

impl Content {
    /// What a new generation takes over.
    pub fn carry(&self) -> Carry {
        Carry { keys: self.keys.clone(), blocks: self.blocks.clone(), changes: self.changes }
    }

    /// Whether the store went back behind what this copy has seen.
    pub fn is_ahead_of(&self, survey: &Survey) -> bool {
        match (self.generation, survey.generation) {
            (Some(mine), Some(theirs)) if theirs.generation.number == mine.number => {
                theirs.generation != mine || survey.changes < self.changes
            }
            (Some(mine), Some(theirs)) => theirs.generation.number < mine.number,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }
}

/// The copy's file in the state directory.
#[derive(Debug)]
pub struct SealedCopy {
    path: PathBuf,
    content: Content,
}

impl SealedCopy {
    /// Reads the copy of `state_dir`; a missing one is empty.
    ///
    /// # Errors
    /// `CONFIG_INVALID` where it can't be read or opened with this seal.
    pub fn open(state_dir: &Path, seal: &Seal) -> Result<Self, Refusal> {
        let path = state_dir.join(FILE);
        let fail = |why: String| Refusal::new(Reason::ConfigInvalid, format!("{}: {why}", path.display()));
        let content = match std::fs::read(&path) {
            Ok(bytes) => {
                let (_, plain) = seal.open(PURPOSE, &bytes).map_err(|e| fail(e.to_string()))?;
                serde_json::from_slice(plain.expose()).map_err(|e| fail(e.to_string()))?
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Content::default(),
            Err(e) => return Err(fail(e.to_string())),
        };
        Ok(Self { path, content })
    }

    /// What it holds.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Replaces it, durably; nothing is written where nothing changed.
    ///
    /// # Errors
    /// `INTERNAL` where it can't be written; the old copy stays.
    pub fn replace(&mut self, seal: &Seal, content: Content) -> Result<(), Refusal> {
        if content == self.content {
            return Ok(());
        }
        let fail = |why: String| Refusal::new(Reason::Internal, format!("{}: {why}", self.path.display()));
        let plain = Secret::new(serde_json::to_vec(&content).map_err(|e| fail(e.to_string()))?);
        let sealed = seal.seal(PURPOSE, content.changes, &plain).map_err(|e| fail(e.to_string()))?;
        write_durably(&self.path, &sealed).map_err(|e| fail(e.to_string()))?;
        self.content = content;
        Ok(())
    }
}

fn write_durably(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let next = path.with_extension("next");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&next, path)?;
    match path.parent() {
        Some(dir) => std::fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

//! Reads configuration files: bounded in size and number, in sorted order, from inside the directory.
//!
//! A symbolic link is followed where it leads to a place inside (mounted volumes are made of such links)
//! and refused where it leads out.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::problem::Problem;
use super::reader::Notes;

/// The largest configuration file, in octets.
pub const FILE_OCTETS_MAX: u64 = 256 * 1024;
/// The most files of one directory.
pub const FILES_MAX: usize = 10_000;

/// One file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its path as a person would name it.
    pub file: PathBuf,
    /// Its text.
    pub text: String,
}

/// Reads one file.
///
/// # Errors
/// It can't be read, is no regular file, is too large or is not UTF-8.
pub fn read_file(file: &Path) -> Result<Source, Problem> {
    let no = |message: String| Problem::of_file(file, message);
    // Opening a pipe would wait for a writer, for ever: reloads and a start would hang.
    let flags = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits().cast_signed();
    let open = OpenOptions::new().read(true).custom_flags(flags).open(file);
    let open = open.map_err(|e| no(format!("can't be read: {e}")))?;
    let meta = open.metadata().map_err(|e| no(format!("can't be read: {e}")))?;
    if !meta.is_file() {
        return Err(no("is not a regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    open.take(FILE_OCTETS_MAX + 1).read_to_end(&mut bytes).map_err(|e| no(format!("can't be read: {e}")))?;
    if bytes.len() as u64 > FILE_OCTETS_MAX {
        return Err(no(format!("is larger than {} KiB", FILE_OCTETS_MAX / 1024)));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source { file: file.to_owned(), text }),
        Err(e) => {
            let lines = e.as_bytes().get(..e.utf8_error().valid_up_to()).unwrap_or_default();
            let line = 1 + lines.iter().filter(|b| **b == b'\n').count();
            Err(Problem { line, ..no("is not UTF-8".to_owned()) })
        }
    }
}

/// Reads every file of `root/directory` whose name ends in `.extension`, in the order of their names. Hidden
/// files and subdirectories are passed over; a directory that does not exist is empty.
pub fn read_directory(root: &Path, directory: &Path, extension: &str, notes: &Notes) -> Vec<Source> {
    let directory = root.join(directory);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(e) => {
            notes.push(Problem::of_file(&directory, format!("can't be read: {e}")));
            return Vec::new();
        }
    };
    let mut names = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => {
                let name = PathBuf::from(entry.file_name());
                let hidden = name.as_os_str().as_encoded_bytes().starts_with(b".");
                if !hidden && name.extension().is_some_and(|e| e == extension) {
                    names.push(name);
                }
            }
            Err(e) => notes.push(Problem::of_file(&directory, format!("can't be read: {e}"))),
        }
        if names.len() > FILES_MAX {
            notes.push(Problem::of_file(&directory, format!("holds more than {FILES_MAX} files")));
            return Vec::new();
        }
    }
    names.sort();
    let mut sources = Vec::with_capacity(names.len());
    for name in names {
        let file = directory.join(name);
        match inside(root, &file).and_then(|()| read_file(&file)) {
            Ok(source) => sources.push(source),
            Err(problem) => notes.push(problem),
        }
    }
    sources
}

fn inside(root: &Path, file: &Path) -> Result<(), Problem> {
    let real =
        |path: &Path| path.canonicalize().map_err(|e| Problem::of_file(file, format!("can't be read: {e}")));
    if real(file)?.starts_with(real(root)?) {
        Ok(())
    } else {
        Err(Problem::of_file(file, "is a link that leads out of the configuration's directory"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn told(notes: Notes) -> Vec<String> {
        notes.finish().0.into_iter().map(|p| p.message).collect()
    }

    #[test]
    fn sorted_without_hidden_files_and_links_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("conf");
        fs::create_dir_all(root.join("trust/sub.toml")).unwrap();
        fs::create_dir_all(root.join("..data")).unwrap();
        fs::write(root.join("..data/b.toml"), "b").unwrap();
        symlink(root.join("..data/b.toml"), root.join("trust/b.toml")).unwrap();
        for name in ["c.toml", "a.toml", ".hidden.toml", "a.toml~", "notes.md"] {
            fs::write(root.join("trust").join(name), name).unwrap();
        }
        let outside = dir.path().join("outside.toml");
        fs::write(&outside, "o").unwrap();
        symlink(&outside, root.join("trust/out.toml")).unwrap();
        symlink(root.join("nowhere"), root.join("trust/dangling.toml")).unwrap();
        let notes = Notes::default();
        let read = read_directory(&root, Path::new("trust"), "toml", &notes);
        let names: Vec<_> = read.iter().map(|s| s.file.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.toml", "b.toml", "c.toml"]);
        let told = told(notes);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told.iter().any(|m| m.contains("leads out")) && told.iter().any(|m| m.contains("regular")));
    }

    #[test]
    fn size_and_encoding_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.toml");
        fs::write(&file, vec![b' '; FILE_OCTETS_MAX as usize]).unwrap();
        read_file(&file).unwrap();
        fs::write(&file, vec![b' '; FILE_OCTETS_MAX as usize + 1]).unwrap();
        assert!(read_file(&file).unwrap_err().message.contains("larger"));
        fs::write(&file, b"a\nb\n\xff").unwrap();
        assert_eq!(read_file(&file).unwrap_err().line, 3);
        let pipe = dir.path().join("pipe.toml");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        assert!(
            read_file(&pipe).unwrap_err().message.contains("regular"),
            "and it must not wait for a writer"
        );
        assert!(read_directory(dir.path(), Path::new("none"), "toml", &Notes::default()).is_empty());
    }
}

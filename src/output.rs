//! Atomic outputs: written to a temporary path in the same directory, synced, then renamed.
//!
//! An existing *file* is replaced, as every workflow engine expects (Galaxy creates outputs empty beforehand). An existing
//! *directory* is used if it is empty, replaced only on request and only if it contains a `run.json`, and rejected otherwise, to
//! protect other directories of the user. Parent directories must exist.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{TempDir, TempPath};

/// Name of the run record inside an output directory.
pub const RECORD: &str = "run.json";

/// An output that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("could not write `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("could not write `{}`: it exists and is not a regular file; name another output", .0.display())]
    NotAFile(PathBuf),
    #[error("could not write directory `{}`: it exists and is not empty; name another output", .0.display())]
    Exists(PathBuf),
    #[error("could not replace directory `{}`: it has no `{RECORD}`, so it was not written by these programs; name another output", .0.display())]
    Foreign(PathBuf),
    #[error("could not use `{}` for unfinished work: it is not empty and was not created by these programs; move it or name another output", .0.display())]
    Occupied(PathBuf),
    #[error("could not write to standard output")]
    Print(#[source] io::Error),
}

impl Error {
    fn writing(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Error::Write { path, source }
    }

    /// Whether standard output was closed by its reader, which is not a failure.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Error::Print(source) if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Writes text to standard output.
pub fn print(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(Error::Print)
}

/// Writes a file through a buffer; on error an existing file is unchanged.
pub fn write_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Error> {
    let pending = Pending::create(path)?;
    let fill = || {
        let mut buffer = BufWriter::new(File::create(pending.path())?);
        write(&mut buffer)?;
        buffer.flush()
    };
    fill().map_err(Error::writing(path))?;
    pending.finish()
}

/// A file being written at a temporary path, for writers that need a path, such as HDF5. Deleted if dropped unfinished.
#[derive(Debug)]
pub struct Pending {
    temporary: TempPath,
    target: PathBuf,
}

impl Pending {
    /// An empty file in the directory of `path`, with the permissions of a new file. Symbolic links are followed.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if target.exists() && !target.is_file() {
            return Err(Error::NotAFile(path.to_owned()));
        }
        let temporary = temporary(0o666)
            .tempfile_in(parent(&target))
            .map_err(Error::writing(path))?;
        Ok(Self {
            temporary: temporary.into_temp_path(),
            target,
        })
    }

    /// The temporary path.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Syncs the file and renames it to the target.
    pub fn finish(self) -> Result<(), Error> {
        let Self { temporary, target } = self;
        sync(&temporary).map_err(Error::writing(&target))?;
        temporary
            .persist(&target)
            .map_err(|error| Error::writing(&target)(error.error))?;
        sync(parent(&target)).map_err(Error::writing(&target))
    }
}

/// Handling of an existing directory that is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    Refuse,
    Replace,
}

/// A directory being filled at a temporary path. Deleted with its content if dropped unfinished.
#[derive(Debug)]
pub struct Directory {
    temporary: TempDir,
    target: PathBuf,
    existing: Existing,
}

impl Directory {
    /// An empty directory next to `path`.
    pub fn create(path: &Path, existing: Existing) -> Result<Self, Error> {
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        check_directory(&target, existing)?;
        let temporary = temporary(0o777)
            .tempdir_in(parent(&target))
            .map_err(Error::writing(path))?;
        Ok(Self {
            temporary,
            target,
            existing,
        })
    }

    /// The temporary path.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Syncs the content and renames the directory to the target.
    pub fn finish(self) -> Result<(), Error> {
        check_directory(&self.target, self.existing)?;
        self.install().map_err(Error::writing(&self.target))
    }

    fn install(&self) -> io::Result<()> {
        sync_tree(self.path())?;
        let folder = parent(&self.target);
        // A directory can only be renamed over an empty one: the old one is moved away and deleted when `old` is dropped.
        let old = temporary(0o700).tempdir_in(folder)?;
        let aside = old.path().join("replaced");
        let replaces = self.target.exists();
        if replaces {
            fs::rename(&self.target, &aside)?;
        }
        if let Err(error) = fs::rename(self.path(), &self.target) {
            if replaces {
                fs::rename(&aside, &self.target)?;
            }
            return Err(error);
        }
        sync(folder)
    }
}

/// Work directory of a run until its output is complete: OUTPUT.partial, from which it can be resumed.
#[derive(Debug)]
pub struct WorkFolder(PathBuf);

/// Marks a work directory as created by these programs, so that it may be cleared.
const UNFINISHED: &str = ".unfinished";

impl WorkFolder {
    /// The work directory of an output: unchanged if the run is resumed, else empty.
    pub fn create(output: &Path, resume: bool) -> Result<Self, Error> {
        let folder = Self::path_of(output);
        let is_ours = folder.join(UNFINISHED).is_file();
        if !is_ours && check_directory(&folder, Existing::Refuse).is_err() {
            return Err(Error::Occupied(folder));
        }
        let create = || {
            fs::create_dir_all(&folder)?;
            fs::write(folder.join(UNFINISHED), "")
        };
        create().map_err(Error::writing(&folder))?;
        let folder = Self(folder);
        if !resume {
            folder.keep_only(|_| false)?;
        }
        Ok(folder)
    }

    /// Path of the work directory of an output.
    pub fn path_of(output: &Path) -> PathBuf {
        let mut name = output.as_os_str().to_owned();
        name.push(".partial");
        PathBuf::from(name)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Removes all files except those with the given names. The mark is kept, even if this is interrupted.
    pub fn keep_only(&self, is_kept: impl Fn(&OsStr) -> bool) -> Result<(), Error> {
        let clear = || {
            for entry in fs::read_dir(&self.0)? {
                let name = entry?.file_name();
                if name != UNFINISHED && !is_kept(&name) {
                    fs::remove_file(self.0.join(name))?;
                }
            }
            Ok(())
        };
        clear().map_err(Error::writing(&self.0))
    }

    /// Renames the directory to the output, which must be absent or an empty directory.
    pub fn become_output(self, target: &Path) -> Result<(), Error> {
        check_directory(target, Existing::Refuse)?;
        let install = || {
            sync_tree(&self.0)?;
            if target.exists() {
                fs::remove_dir(target)?;
            }
            // The mark is removed last: without it, an interrupted run could not be resumed.
            fs::rename(&self.0, target)?;
            fs::remove_file(target.join(UNFINISHED))?;
            sync(parent(target))
        };
        install().map_err(Error::writing(target))
    }

    /// Removes the directory after its content was moved to the output; errors are ignored.
    pub fn remove(self) {
        let _ = self.keep_only(|_| false);
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Checks whether [`Directory::create`] would accept the directory, without changing anything.
pub fn check_directory(path: &Path, existing: Existing) -> Result<(), Error> {
    let mut entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::writing(path)(error)),
    };
    match existing {
        _ if entries.next().is_none() => Ok(()),
        Existing::Refuse => Err(Error::Exists(path.to_owned())),
        Existing::Replace if path.join(RECORD).is_file() => Ok(()),
        Existing::Replace => Err(Error::Foreign(path.to_owned())),
    }
}

/// The parent directory of a path; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn temporary(mode: u32) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    // The umask applies to the mode, as for any new file; the default of the crate is private to the user.
    builder
        .prefix(".unfinished-")
        .permissions(Permissions::from_mode(mode));
    builder
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => sync_tree(&entry.path())?,
            kind if kind.is_file() => sync(&entry.path())?,
            _ => {}
        }
    }
    sync(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let name =
            |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(name).collect();
        names.sort();
        names
    }

    #[test]
    fn a_failed_write_keeps_the_old_file_and_no_temporary_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, "old").unwrap();
        let failed = write_file(&path, |w| {
            w.write_all(b"half")
                .and(Err(io::ErrorKind::StorageFull.into()))
        });
        assert!(matches!(failed, Err(Error::Write { .. })));
        assert_eq!(
            (names(folder.path()), fs::read_to_string(&path).unwrap()),
            (vec!["a.txt".into()], "old".into())
        );
        write_file(&path, |w| w.write_all(b"new")).unwrap();
        assert_eq!(
            (names(folder.path()), fs::read_to_string(&path).unwrap()),
            (vec!["a.txt".into()], "new".into())
        );
    }

    #[test]
    fn new_files_are_readable_like_any_other() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write_file(&ours, |w| w.write_all(b"x")).unwrap();
        fs::write(&plain, "x").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[test]
    fn links_are_followed_and_devices_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write_file(&link, |w| w.write_all(b"new")).unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        assert!(matches!(
            write_file(Path::new("/dev/null"), |_| Ok(())),
            Err(Error::NotAFile(_))
        ));
    }

    #[test]
    fn a_directory_appears_when_finished_and_is_deleted_otherwise() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("model");
        let unfinished = Directory::create(&path, Existing::Refuse).unwrap();
        fs::write(unfinished.path().join("weights"), "half").unwrap();
        drop(unfinished);
        assert!(names(place.path()).is_empty());

        let finished = Directory::create(&path, Existing::Refuse).unwrap();
        fs::write(finished.path().join("weights"), "whole").unwrap();
        assert!(!path.exists());
        finished.finish().unwrap();
        assert_eq!(
            (names(place.path()), names(&path)),
            (vec!["model".into()], vec!["weights".into()])
        );
    }

    #[test]
    fn a_work_directory_is_kept_or_cleared_if_marked_and_becomes_the_output() {
        let place = tempfile::tempdir().unwrap();
        let (output, partial) = (place.path().join("out"), place.path().join("out.partial"));
        let made = WorkFolder::create(&output, false).unwrap();
        fs::write(made.path().join("state"), "half").unwrap();
        WorkFolder::create(&output, true).unwrap();
        assert!(partial.join("state").exists());
        let work = WorkFolder::create(&output, false).unwrap();
        assert!(!partial.join("state").exists());
        fs::write(work.path().join("shard"), "whole").unwrap();
        work.become_output(&output).unwrap();
        assert_eq!(names(place.path()), ["out"]);
        assert_eq!(names(&output), ["shard"]);
        fs::create_dir(&partial).unwrap();
        fs::write(partial.join("thesis.txt"), "mine").unwrap();
        for resume in [false, true] {
            let rejected = WorkFolder::create(&output, resume);
            assert!(matches!(rejected, Err(Error::Occupied(_))));
        }
        assert_eq!(names(&partial), ["thesis.txt"]);
    }

    #[test]
    fn a_directory_is_replaced_only_on_request_and_only_with_a_record() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("model");
        fs::create_dir(&path).unwrap();
        Directory::create(&path, Existing::Refuse)
            .unwrap()
            .finish()
            .unwrap();
        fs::write(path.join("thesis.txt"), "mine").unwrap();
        assert!(matches!(
            Directory::create(&path, Existing::Refuse),
            Err(Error::Exists(_))
        ));
        assert!(matches!(
            Directory::create(&path, Existing::Replace),
            Err(Error::Foreign(_))
        ));
        fs::rename(path.join("thesis.txt"), path.join(RECORD)).unwrap();
        let next = Directory::create(&path, Existing::Replace).unwrap();
        fs::write(next.path().join("weights"), "").unwrap();
        next.finish().unwrap();
        assert_eq!(
            (names(place.path()), names(&path)),
            (vec!["model".into()], vec!["weights".into()])
        );
    }
}

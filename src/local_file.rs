//! Files of this machine: which a download may replace, and which an upload may read.

use std::fs::{self, File, FileType, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Result, Status};
use crate::redact::shown;

/// As many symbolic links as Linux follows in one path.
const MOST_LINKS: usize = 40;
/// Set-user-ID and set-group-ID: a file of another owner must not have them.
const SET_IDS: u32 = 0o6000;

/// A file that takes its name when it is whole. Until then it lies beside its place under another name, and is removed
/// when this is dropped.
pub(crate) struct NewFile {
    temporary: NamedTempFile,
    place: PathBuf,
}

impl NewFile {
    /// For `path`. A symbolic link stays, and what it leads to is replaced. A file that is replaced hands on its mode, and
    /// its owner as far as that is permitted. What is there and no regular file is refused.
    pub(crate) fn at(path: &Path) -> Result<Self> {
        let Found { place, old } = find(path)?;
        let directory = match place.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // The mode of any new file: the umask still applies. Nobody else may look into one that will be kept from them.
        let mode = if old.is_some() { 0o600 } else { 0o666 };
        let temporary = tempfile::Builder::new()
            .prefix(".aztorch-")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(directory)
            .map_err(|error| Error::file("cannot write in", directory, &error))?;
        if let Some(old) = old {
            hand_on(temporary.as_file(), &old).map_err(|error| Error::file("cannot write", path, &error))?;
        }
        Ok(Self { temporary, place })
    }

    pub(crate) fn file(&self) -> &File {
        self.temporary.as_file()
    }

    pub(crate) fn publish(self) -> Result<()> {
        let Self { temporary, place } = self;
        temporary.persist(&place).map(drop).map_err(|error| Error::file("cannot create", &place, &error.error))
    }
}

/// Where a path leads to, and what is there now.
struct Found {
    place: PathBuf,
    old: Option<Metadata>,
}

fn find(path: &Path) -> Result<Found> {
    let cannot = |error: &io::Error| Error::file("cannot write", path, error);
    let mut place = path.to_owned();
    for _ in 0..=MOST_LINKS {
        // "folder/.." and "folder/" are folders, whether they are there or not; such a path is not cut to its last name.
        let is_folder = place.file_name().is_none() || place.as_os_str().as_bytes().ends_with(b"/");
        match fs::symlink_metadata(&place) {
            Err(error) if error.kind() == ErrorKind::NotFound && !is_folder => return Ok(Found { place, old: None }),
            Err(error) => return Err(cannot(&error)),
            Ok(metadata) if metadata.is_symlink() => {
                let target = fs::read_link(&place).map_err(|error| cannot(&error))?;
                place = match place.parent() {
                    // An absolute target takes the place of all of it.
                    Some(parent) => parent.join(target),
                    None => target,
                };
            }
            Ok(metadata) => {
                require_regular(path, &metadata, "cannot write")?;
                return Ok(Found { place, old: Some(metadata) });
            }
        }
    }
    Err(cannot(&io::Error::from_raw_os_error(libc::ELOOP)))
}

/// Mode and owner, before anything is written into the file.
fn hand_on(file: &File, old: &Metadata) -> io::Result<()> {
    let new = file.metadata()?;
    let mut mode = old.permissions().mode() & 0o7777;
    let is_same = (new.uid(), new.gid()) == (old.uid(), old.gid());
    // Few may give files away. The group alone is permitted to its members.
    if !is_same && fchown(file, Some(old.uid()), Some(old.gid())).is_err() {
        mode &= !SET_IDS;
        if fchown(file, None, Some(old.gid())).is_err() {
            // What its group was permitted is not for another group.
            mode &= !0o070;
        }
    }
    // Some file systems give all files one mode, and permit no other.
    if new.permissions().mode() & 0o7777 == mode {
        return Ok(());
    }
    // After the owner: changing that clears the set-ID bits.
    file.set_permissions(Permissions::from_mode(mode))
}

/// A file to be read to its end, and how much it has now.
pub(crate) fn open(path: &Path) -> Result<(File, u64)> {
    let cannot = |error: io::Error| Error::file("cannot read", path, &error);
    // Before it is opened: that already moves a tape, and waits for the other end of a FIFO.
    require_readable(path, &fs::metadata(path).map_err(cannot)?)?;
    let file = File::open(path).map_err(cannot)?;
    // Again: it may be another file by now.
    let metadata = file.metadata().map_err(cannot)?;
    require_readable(path, &metadata)?;
    Ok((file, metadata.len()))
}

/// No deadline ends a read of a FIFO, a terminal or a socket, and some devices never end. The null device is the usual
/// way to name an empty file.
fn require_readable(path: &Path, metadata: &Metadata) -> Result<()> {
    let is_null = metadata.file_type().is_char_device() && metadata.rdev() == libc::makedev(1, 3);
    if is_null { Ok(()) } else { require_regular(path, metadata, "cannot read") }
}

fn require_regular(path: &Path, metadata: &Metadata, what: &str) -> Result<()> {
    match kind(metadata.file_type()) {
        None => Ok(()),
        Some(kind) => Err(Error::new(
            Status::LocalIo,
            format!("{what} {}: it is a {kind}, not a regular file", shown(&path.to_string_lossy())),
        )),
    }
}

/// What a file is, unless it is a regular one.
fn kind(file_type: FileType) -> Option<&'static str> {
    match file_type {
        _ if file_type.is_file() => None,
        _ if file_type.is_dir() => Some("directory"),
        _ if file_type.is_fifo() => Some("FIFO (named pipe)"),
        _ if file_type.is_socket() => Some("socket"),
        _ if file_type.is_char_device() => Some("character device"),
        _ if file_type.is_block_device() => Some("block device"),
        _ => Some("file of an unknown kind"),
    }
}

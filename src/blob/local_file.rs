//! Local files: which of them a download may replace, and which an upload may read.

use std::fs::{self, File, FileType, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Result, Status};
use crate::redact::shown;
use crate::sys::process::effective_user;

/// The most symbolic links that Linux follows in one path.
const MAX_LINKS: usize = 40;
/// The mode of a folder in which only its owner and the owner of a file may rename or remove the file.
const STICKY: u32 = 0o1000;
const OTHERS_WRITE: u32 = 0o022;
/// The mode bits that a new file takes over from the old one. Set-ID bits are left out: they must not apply to
/// downloaded bytes.
const MODE: u32 = 0o777;

/// A file that gets its name when it is complete. Until then it lies in the same folder under another name, and is
/// removed when this is dropped.
pub(crate) struct NewFile {
    temporary: NamedTempFile,
    place: PathBuf,
}

impl NewFile {
    /// A new file for `path`. A symbolic link stays, and the file that it leads to is replaced. The new file gets the
    /// mode (without set-ID bits) and the owner of the replaced one, as far as that is permitted. Existing files that
    /// are not regular are refused, and so are links and files of other users in a folder like `/tmp`.
    pub(crate) fn at(path: &Path) -> Result<Self> {
        let Found { place, old } = find(path)?;
        let directory = folder_of(&place);
        // A new file gets the usual mode, to which the umask applies. A file that replaces another one stays closed to
        // other users until it gets the old file's mode.
        let mode = if old.is_some() { 0o600 } else { 0o666 };
        let temporary = tempfile::Builder::new()
            .prefix(".aztorch-")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(directory)
            .map_err(|error| Error::file("cannot write in", directory, &error))?;
        if let Some(old) = old {
            copy_mode_and_owner(temporary.as_file(), &old)
                .map_err(|error| Error::file("cannot write", path, &error))?;
        }
        Ok(Self { temporary, place })
    }

    pub(crate) fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// Gives the file its name.
    pub(crate) fn publish(self) -> Result<()> {
        let Self { temporary, place } = self;
        // Check again: the download may have taken hours.
        match fs::symlink_metadata(&place) {
            Ok(now) => require_regular(&place, &now, "cannot replace")?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file("cannot replace", &place, &error)),
        }
        temporary.persist(&place).map(drop).map_err(|error| Error::file("cannot create", &place, &error.error))
    }
}

/// Where a path leads to, and the file that is there now.
struct Found {
    place: PathBuf,
    old: Option<Metadata>,
}

fn find(path: &Path) -> Result<Found> {
    let cannot = |error: &io::Error| Error::file("cannot write", path, error);
    let mut place = path.to_owned();
    for _ in 0..=MAX_LINKS {
        // "folder/.." and "folder/" name folders, also when they do not exist.
        let is_folder = place.file_name().is_none() || place.as_os_str().as_bytes().ends_with(b"/");
        match fs::symlink_metadata(&place) {
            Err(error) if error.kind() == ErrorKind::NotFound && !is_folder => return Ok(Found { place, old: None }),
            Err(error) => return Err(cannot(&error)),
            Ok(metadata) if is_of_another_user(&place, &metadata).map_err(|error| cannot(&error))? => {
                let message = format!(
                    "cannot write {}: another user owns {}, in a folder with the sticky bit",
                    shown(&path.to_string_lossy()),
                    shown(&place.to_string_lossy())
                );
                return Err(Error::new(Status::LocalIo, message));
            }
            // The link leads to an open file, which may have no name, or none that this process can reach.
            Ok(metadata) if metadata.is_symlink() && is_on_proc(&metadata) => {
                let message = format!(
                    "cannot write {}: it stands for an open file; a download needs the file's name",
                    shown(&path.to_string_lossy())
                );
                return Err(Error::new(Status::LocalIo, message));
            }
            Ok(metadata) if metadata.is_symlink() => {
                let target = fs::read_link(&place).map_err(|error| cannot(&error))?;
                place = match place.parent() {
                    // `join` replaces the whole path by an absolute target.
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

/// Whether another user has put this link or file into a folder that all users may write to. A link could lead a
/// privileged process anywhere, and a file would make the downloaded bytes that user's. These are the kernel's rules
/// `fs.protected_symlinks` and `fs.protected_regular`, which do not apply here because this file follows links itself:
/// <https://docs.kernel.org/admin-guide/sysctl/fs.html#protected-symlinks>.
fn is_of_another_user(place: &Path, metadata: &Metadata) -> io::Result<bool> {
    let folder = fs::metadata(folder_of(place))?;
    let is_shared = folder.mode() & STICKY != 0 && folder.mode() & OTHERS_WRITE != 0;
    Ok(is_shared && metadata.uid() != folder.uid() && metadata.uid() != effective_user())
}

fn is_on_proc(link: &Metadata) -> bool {
    fs::metadata("/proc").is_ok_and(|proc| proc.dev() == link.dev())
}

fn folder_of(place: &Path) -> &Path {
    place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Gives `file` the owner and mode of `old`. Call it before anything is written into the file.
fn copy_mode_and_owner(file: &File, old: &Metadata) -> io::Result<()> {
    let new = file.metadata()?;
    let mut mode = old.permissions().mode() & MODE;
    let is_same = (new.uid(), new.gid()) == (old.uid(), old.gid());
    // Few users may change a file's owner. Members of a group may set the group.
    if !is_same
        && fchown(file, Some(old.uid()), Some(old.gid())).is_err()
        && fchown(file, None, Some(old.gid())).is_err()
    {
        // The permissions of the old group must not apply to another group.
        mode &= !0o070;
    }
    match file.set_permissions(Permissions::from_mode(mode)) {
        // Some file systems have one mode for all files, and a process that gave a file away may not change its mode
        // any more. The file then keeps its stricter mode.
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => Ok(()),
        result => result,
    }
}

/// Opens a file to be read to its end; returns it with its current size in bytes.
pub(crate) fn open(path: &Path) -> Result<(File, u64)> {
    let cannot = |error: io::Error| Error::file("cannot read", path, &error);
    // Check before opening the file: opening moves a tape, and blocks until a FIFO has another end.
    require_readable(path, &fs::metadata(path).map_err(cannot)?)?;
    // Open without blocking: the path may name another file by now, even a FIFO without another end.
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    require_readable(path, &metadata)?;
    Ok((file, metadata.len()))
}

/// Refuses files that an upload cannot read to the end: no deadline ends a read of a FIFO, a terminal or a socket, and
/// some devices never end. The null device is accepted as an empty file.
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

/// The kind of a file; `None` for a regular file.
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

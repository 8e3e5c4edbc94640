//! Files of this machine: which a download may replace, and which an upload may read.

use std::fs::{self, File, FileType, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Result, Status};
use crate::redact::shown;
use crate::sys::process::effective_user;

/// As many symbolic links as Linux follows in one path.
const MOST_LINKS: usize = 40;
/// A folder in which only its owner and a file's may rename or remove the file.
const STICKY: u32 = 0o1000;
const OTHERS_WRITE: u32 = 0o022;
/// What a new file takes over of the old one's mode. Set-ID bits are not for bytes from elsewhere.
const MODE: u32 = 0o777;

/// A file that takes its name when it is whole. Until then it lies beside its place under another name, and is removed
/// when this is dropped.
pub(crate) struct NewFile {
    temporary: NamedTempFile,
    place: PathBuf,
}

impl NewFile {
    /// For `path`. A symbolic link stays, and what it leads to is replaced. A file that is replaced hands on its mode without
    /// set-ID bits, and its owner, as far as that is permitted. What is there and no regular file is refused, and so are
    /// links and files that others have put into a folder like `/tmp`.
    pub(crate) fn at(path: &Path) -> Result<Self> {
        let Found { place, old } = find(path)?;
        let directory = folder_of(&place);
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
        // It was looked at before the download, which may have taken hours.
        match fs::symlink_metadata(&place) {
            Ok(now) => require_regular(&place, &now, "cannot replace")?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file("cannot replace", &place, &error)),
        }
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
            Ok(metadata) if is_strangers(&place, &metadata).map_err(|error| cannot(&error))? => {
                let message = format!(
                    "cannot write {}: another user owns {}, in a folder with the sticky bit",
                    shown(&path.to_string_lossy()),
                    shown(&place.to_string_lossy())
                );
                return Err(Error::new(Status::LocalIo, message));
            }
            // It leads to an open file, which may have no name, or none that is reachable.
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

/// Whether another user has put this link or file where everybody may: it could lead a privileged process anywhere, or make
/// the downloaded bytes that user's own. The rule is the kernel's, of `fs.protected_symlinks` and `fs.protected_regular`,
/// which does not see us as we follow links ourselves:
/// <https://docs.kernel.org/admin-guide/sysctl/fs.html#protected-symlinks>.
fn is_strangers(place: &Path, metadata: &Metadata) -> io::Result<bool> {
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

/// Owner and mode, before anything is written into the file.
fn hand_on(file: &File, old: &Metadata) -> io::Result<()> {
    let new = file.metadata()?;
    let mut mode = old.permissions().mode() & MODE;
    let is_same = (new.uid(), new.gid()) == (old.uid(), old.gid());
    // Few may give files away. The group alone is permitted to its members.
    if !is_same
        && fchown(file, Some(old.uid()), Some(old.gid())).is_err()
        && fchown(file, None, Some(old.gid())).is_err()
    {
        // What its group was permitted is not for another group.
        mode &= !0o070;
    }
    match file.set_permissions(Permissions::from_mode(mode)) {
        // Some file systems give all files one mode. And who may give files away need not be permitted to change them after
        // that. The file then stays as closed as it is.
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) => Ok(()),
        result => result,
    }
}

/// A file to be read to its end, and how much it has now.
pub(crate) fn open(path: &Path) -> Result<(File, u64)> {
    let cannot = |error: io::Error| Error::file("cannot read", path, &error);
    // Before it is opened: that already moves a tape, and waits for the other end of a FIFO.
    require_readable(path, &fs::metadata(path).map_err(cannot)?)?;
    // It may be another file by now, a FIFO even, whose other end nobody opens.
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).map_err(cannot)?;
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

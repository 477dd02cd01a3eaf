//! What can go wrong with the store, who is to blame, and what to do.

use rusqlite::ErrorCode;

/// Who can change something about an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blame {
    /// The machine: its disk, its permissions, another program.
    Environment,
    /// This program.
    Ours,
}

/// Why the store did not do what it was asked. The text says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No room is left on the disk.
    #[error(
        "the disk is full, nothing is kept of calls and events: free space for the data folder, or lower [journal] size"
    )]
    Full,
    /// The file or its folder can't be written or opened.
    #[error("the store can't be opened for writing: let tipring's user write to the data folder ({0})")]
    ReadOnly(String),
    /// The file is damaged.
    #[error("the store is damaged: move it away and restart tipring, which begins a new one ({0})")]
    Corrupt(String),
    /// Another program has the file open.
    #[error(
        "the store is in use: another tipring runs with this data folder; stop it, or give this one its own folder"
    )]
    InUse,
    /// A newer version of the program made the file.
    #[error(
        "the store is of a newer tipring (version {found}, this one knows {known}): install that version again, or move the store away"
    )]
    Newer {
        /// The version of the file.
        found: i64,
        /// The newest version that this program knows.
        known: usize,
    },
    /// The file is a database of another program.
    #[error("the store's file belongs to another program: give tipring its own data folder")]
    Foreign,
    /// The disk failed to read or write.
    #[error("the disk fails: look at the kernel's log and replace the card or disk ({0})")]
    Disk(String),
    /// An event has a number that another event has.
    #[error("event number {sequence} was given twice: report this as a fault of tipring")]
    NumberTaken {
        /// The number.
        sequence: u64,
    },
    /// We asked for something that SQLite did not understand.
    #[error("the store refused a request: report this as a fault of tipring ({0})")]
    Ours(String),
}

impl StoreError {
    /// Who can change something about it.
    pub fn blame(&self) -> Blame {
        match self {
            StoreError::NumberTaken { .. } | StoreError::Ours(_) => Blame::Ours,
            _ => Blame::Environment,
        }
    }

    /// Whether the same request may succeed later without anybody touching the file.
    pub fn may_pass(&self) -> bool {
        matches!(self, StoreError::Full | StoreError::InUse | StoreError::Disk(_) | StoreError::ReadOnly(_))
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full,
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                StoreError::ReadOnly(text)
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Corrupt(text),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse,
            Some(ErrorCode::SystemIoFailure | ErrorCode::FileLockingProtocolFailed) => StoreError::Disk(text),
            Some(_) => StoreError::Ours(text),
            // A column that does not hold what it should was damaged, or written by somebody else.
            None => match error {
                rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::IntegralValueOutOfRange(..) => StoreError::Corrupt(text),
                _ => StoreError::Ours(text),
            },
        }
    }
}

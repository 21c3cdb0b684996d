//! Running a program in a process that does not care for its children.
//!
//! The BEAM ignores SIGCHLD. A child would inherit that, and not see the end of children of its own; and the
//! system keeps no exit status for the parent, which is what the standard library's `Command` relies on. So
//! the child gets the signal as it was, and its end is that of what it writes.

use std::{
    env,
    ffi::{CString, OsStr, OsString},
    io::{self, PipeReader, Read, pipe},
    mem::MaybeUninit,
    os::{fd::AsRawFd, unix::ffi::OsStringExt},
    ptr,
    time::{Duration, Instant},
};

/// What it writes may be long.
const MOST_TEXT: usize = 2000;

/// Runs a program, by its name in the search path or by its path, and returns the beginning of what it
/// writes to its standard error. Nothing tells whether it succeeded.
pub(super) fn run(program: &str, arguments: &[&OsStr], patience: Duration) -> io::Result<String> {
    let (mut output, writer) = pipe()?;
    let child = spawn(program, arguments, writer.as_raw_fd())?;
    drop(writer);
    let said = listen(&mut output, patience);
    // SAFETY: the child is one of this process, which has not waited for it yet. Where the signal is
    // ignored, waiting fails after the child's end.
    unsafe {
        if said.is_err() {
            libc::kill(child, libc::SIGKILL);
        }
        libc::waitpid(child, ptr::null_mut(), 0);
    }
    said
}

/// Starts a program whose standard error is this descriptor.
fn spawn(program: &str, arguments: &[&OsStr], error: i32) -> io::Result<libc::pid_t> {
    let name = OsStr::new(program);
    let words = [name].into_iter().chain(arguments.iter().copied());
    let words: Vec<_> = words
        .map(|word| text(word.to_owned()))
        .collect::<Result<_, _>>()?;
    let environment = env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        text(name)
    });
    let environment: Vec<_> = environment.collect::<Result<_, _>>()?;
    let pointers = |texts: &[CString]| {
        let pointers = texts.iter().map(|text| text.as_ptr().cast_mut());
        pointers.chain([ptr::null_mut()]).collect::<Vec<_>>()
    };
    let (words, environment) = (pointers(&words), pointers(&environment));
    let mut child = 0;
    let (mut actions, mut attributes) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let (mut all, mut none) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: each is made before it is used and given up at the end; the texts and lists are live, end as
    // they have to, and are only read; the descriptor is open.
    let status = unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigemptyset(all.as_mut_ptr());
        libc::sigaddset(all.as_mut_ptr(), libc::SIGCHLD);
        libc::posix_spawnattr_init(attributes.as_mut_ptr());
        libc::posix_spawnattr_setsigdefault(attributes.as_mut_ptr(), all.as_ptr());
        libc::posix_spawnattr_setsigmask(attributes.as_mut_ptr(), none.as_ptr());
        let flags = libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
        libc::posix_spawnattr_setflags(attributes.as_mut_ptr(), flags as _);
        libc::posix_spawn_file_actions_init(actions.as_mut_ptr());
        let nowhere = c"/dev/null".as_ptr();
        for (descriptor, mode) in [(0, libc::O_RDONLY), (1, libc::O_WRONLY)] {
            let actions = actions.as_mut_ptr();
            libc::posix_spawn_file_actions_addopen(actions, descriptor, nowhere, mode, 0);
        }
        libc::posix_spawn_file_actions_adddup2(actions.as_mut_ptr(), error, 2);
        let status = libc::posix_spawnp(
            &raw mut child,
            words[0],
            actions.as_ptr(),
            attributes.as_ptr(),
            words.as_ptr(),
            environment.as_ptr(),
        );
        libc::posix_spawn_file_actions_destroy(actions.as_mut_ptr());
        libc::posix_spawnattr_destroy(attributes.as_mut_ptr());
        status
    };
    match status {
        0 => Ok(child),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn text(text: OsString) -> io::Result<CString> {
    CString::new(text.into_vec()).map_err(Into::into)
}

/// What is written before the end.
fn listen(output: &mut PipeReader, patience: Duration) -> io::Result<String> {
    let end = Instant::now() + patience;
    let (mut said, mut bytes) = (Vec::new(), [0; 4096]);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut poll = libc::pollfd {
            fd: output.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: the one descriptor is open, and is waited for, for no longer than this takes.
        match unsafe { libc::poll(&raw mut poll, 1, left.as_millis() as i32) } {
            0 => {
                let seconds = patience.as_secs();
                let text = format!("it did not end within {seconds} seconds");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            -1 => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => continue,
                error => return Err(error),
            },
            _ => {}
        }
        let count = output.read(&mut bytes)?;
        if count == 0 {
            return Ok(String::from_utf8_lossy(&said).into_owned());
        }
        let room = MOST_TEXT.saturating_sub(said.len());
        said.extend(&bytes[..count.min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(command: &str, patience: Duration) -> io::Result<String> {
        run("sh", &[OsStr::new("-c"), OsStr::new(command)], patience)
    }

    #[test]
    fn says_what_a_program_says() {
        let patience = Duration::from_secs(60);
        assert_eq!(
            shell("echo heard >&2; echo not; exit 3", patience).unwrap(),
            "heard\n"
        );
        let long = shell("head -c 100000 /dev/zero >&2", patience).unwrap();
        assert_eq!(long.len(), MOST_TEXT);
        let absent = run("no-such-program", &[], patience).unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn gives_up_what_does_not_end() {
        let error = shell(
            "exec cat < /dev/zero > /dev/null",
            Duration::from_millis(50),
        );
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}

//! Another Rust library, which a program links statically beside aztorch. It uses what two libraries would share if their
//! symbols met: the allocator, threads, panics.

use std::collections::HashMap;
use std::panic;

#[unsafe(no_mangle)]
pub extern "C" fn second_library_runs() -> i32 {
    let counts: HashMap<usize, String> = (0..1000).map(|n| (n, n.to_string())).collect();
    let thread = std::thread::spawn(move || counts.values().map(String::len).sum::<usize>());
    let digits = thread.join().unwrap_or_default();
    panic::set_hook(Box::new(|_| ()));
    let caught = panic::catch_unwind(|| panic!("on purpose")).is_err();
    i32::from(digits == 2890 && caught)
}

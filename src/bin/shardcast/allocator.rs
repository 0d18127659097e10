//! The program's allocator, and how it gives memory back.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h, versions 2 and 3.
const PURGE_DELAY: c_int = 15;

unsafe extern "C" {
    // SAFETY: it takes two integers and stores the second; an option that is unknown is ignored.
    safe fn mi_option_set_default(option: c_int, value: c_long);
}

/// Memory that is free goes back to the kernel now, not after a delay that only further calls let pass: what hundreds of large
/// messages took would be kept by a server that has become quiet. `MIMALLOC_PURGE_DELAY` in the environment comes first.
pub(crate) fn give_memory_back_at_once() {
    mi_option_set_default(PURGE_DELAY, 0);
}

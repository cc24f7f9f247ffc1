//! A global allocator that wipes memory before it gives it back.
//!
//! A program that handles secrets and then hands its process to another program cannot know every buffer that a
//! library filled with them (received frames, decoded messages). In a LibOS enclave old and new program share one
//! memory, so what was freed must not survive.

#![expect(unsafe_code, reason = "the kernel interface")]

use std::alloc::{GlobalAlloc, Layout, System};

/// The system allocator; every freed or moved block is overwritten with zeros first.
#[derive(Clone, Copy, Debug, Default)]
pub struct WipingAllocator;

// SAFETY: allocation and deallocation are those of `System`; the block is written only before it is given back, while
// it still belongs to the caller of `dealloc`. `realloc` is the provided method: allocate, copy, `dealloc` (and wipe).
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: same contract as ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: same contract as ours.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller gives back a block of `layout.size()` bytes and no longer reads it. `explicit_bzero`,
        // because the compiler may drop plain writes to memory that is freed next.
        unsafe { libc::explicit_bzero(block.cast(), layout.size()) };
        // SAFETY: same contract as ours.
        unsafe { System.dealloc(block, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_grows_with_its_content() {
        let allocator = WipingAllocator;
        let layout = Layout::from_size_align(64, 8).unwrap();
        // SAFETY: the block is used within its size, grown once and given back with its layout of that time.
        unsafe {
            let block = allocator.alloc(layout);
            std::ptr::write_bytes(block, 0x5a, 64);
            let grown = allocator.realloc(block, layout, 4096);
            assert_eq!(std::slice::from_raw_parts(grown, 64), [0x5a; 64]);
            allocator.dealloc(grown, Layout::from_size_align(4096, 8).unwrap());
        }
    }
}

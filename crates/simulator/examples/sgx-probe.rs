//! A dynamic Rust program that knows nothing of the simulator; tests run it inside.

use std::io::Write;
use std::path::Path;

use marblerun_linux::sgx::SgxDevice;
use marblerun_linux::uname::uname;

fn main() -> std::io::Result<()> {
    let name = uname()?;
    let device = SgxDevice::open(Path::new("/dev/sgx"))?;
    let size = device.dcap_quote_size()?;
    let data: [u8; 64] = std::array::from_fn(|index| index as u8);
    let quote = device.dcap_quote(&data, size)?;
    assert_eq!(quote[368..432], data, "the quote carries other report data");
    let (system, release, machine) = (name.sysname, name.release, name.machine);
    let text = format!("identity: {system} {release} {machine} quote of {size} bytes with the report data\n");
    std::io::stdout().write_all(text.as_bytes())
}

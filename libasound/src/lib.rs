//! libasound, the library of ALSA, loaded when sound is first asked for.
//!
//! Linked in the usual way, the dynamic linker would look up each of its 800 symbols before the program begins, which a
//! phone that restarts waits for, and a gateway without sound could not run where the library is not installed. So the
//! functions that `cpal` and `alsa` call are defined here; each passes its arguments on to the function of the same name
//! in `libasound.so.2`, found at its first call. `.cargo/config.toml` keeps `alsa-sys` from linking the library itself.
//!
//! Types are those of the platform's calling convention: structures of the library are addresses, its enumerations
//! `c_int`, its counts of frames `c_long` and `c_ulong`.

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The address of a structure of the library, or of somebody else's.
type Handle = *mut c_void;
/// A text that ends with a zero.
type Text = *const c_char;

/// Whether the library can be loaded. It is, and stays so.
pub fn is_present() -> bool {
    !library().is_null()
}

/// What `dlopen` gave, null if there is no library.
fn library() -> Handle {
    struct Loaded(Handle);
    // SAFETY: an opened library is the same for all threads, and never closed.
    unsafe impl Send for Loaded {}
    unsafe impl Sync for Loaded {}
    static LIBRARY: OnceLock<Loaded> = OnceLock::new();
    // SAFETY: a name that ends with a zero. What the library does while it is loaded is what it would do at the start.
    LIBRARY.get_or_init(|| Loaded(unsafe { libc::dlopen(c"libasound.so.2".as_ptr(), libc::RTLD_NOW) })).0
}

/// Where the function of this name is, which ends with a zero; null where it can't be had. Of several versions of it, the
/// newest.
#[cold]
fn find(name: &'static str) -> Handle {
    let library = library();
    match CStr::from_bytes_with_nul(name.as_bytes()) {
        // SAFETY: a library that is open, and a name that ends with a zero.
        Ok(name) if !library.is_null() => unsafe { libc::dlsym(library, name.as_ptr()) },
        _ => std::ptr::null_mut(),
    }
}

/// What a function answers where the library is missing.
trait Missing {
    const ANSWER: Self;
}

impl Missing for () {
    const ANSWER: () = ();
}

/// `c_int`, `c_long` and `c_ulong` are among these on every machine.
macro_rules! missing {
    ($($number:ty: $answer:expr;)*) => {$(
        impl Missing for $number {
            const ANSWER: $number = $answer;
        }
    )*};
}

missing! {
    i32: -libc::ENOENT;
    i64: -(libc::ENOENT as i64);
    u32: 0;
    u64: 0;
}

impl<T> Missing for *mut T {
    const ANSWER: *mut T = std::ptr::null_mut();
}

impl<T> Missing for *const T {
    const ANSWER: *const T = std::ptr::null();
}

macro_rules! functions {
    ($(fn $name:ident($($argument:ident: $type:ty),*) $(-> $answer:ty)?;)*) => {$(
        /// See the library's documentation.
        ///
        /// # Safety
        ///
        /// As the library's documentation asks.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) $(-> $answer)? {
            type Function = unsafe extern "C" fn($($type),*) $(-> $answer)?;
            static FOUND: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
            let mut address = FOUND.load(Ordering::Relaxed);
            if address.is_null() {
                address = find(concat!(stringify!($name), "\0"));
                FOUND.store(address, Ordering::Relaxed);
            }
            // SAFETY: the function of this name has this type, and null is no function; the rest is the caller's promise.
            match unsafe { std::mem::transmute::<Handle, Option<Function>>(address) } {
                Some(function) => unsafe { function($($argument),*) },
                None => Missing::ANSWER,
            }
        }
    )*};
}

functions! {
    fn snd_card_next(card: *mut c_int) -> c_int;
    fn snd_config_update() -> c_int;
    fn snd_config_update_free_global() -> c_int;
    fn snd_ctl_card_info(ctl: Handle, info: Handle) -> c_int;
    fn snd_ctl_card_info_free(object: Handle);
    fn snd_ctl_card_info_get_name(object: Handle) -> Text;
    fn snd_ctl_card_info_malloc(to: *mut Handle) -> c_int;
    fn snd_ctl_close(ctl: Handle) -> c_int;
    fn snd_ctl_open(ctl: *mut Handle, name: Text, mode: c_int) -> c_int;
    fn snd_ctl_pcm_info(ctl: Handle, info: Handle) -> c_int;
    fn snd_ctl_pcm_next_device(ctl: Handle, device: *mut c_int) -> c_int;
    fn snd_device_name_free_hint(hints: *mut Handle) -> c_int;
    fn snd_device_name_get_hint(hint: Handle, id: Text) -> *mut c_char;
    fn snd_device_name_hint(card: c_int, iface: Text, hints: *mut *mut Handle) -> c_int;
    fn snd_lib_error_set_local(handler: Handle) -> Handle;
    fn snd_output_buffer_open(output: *mut Handle) -> c_int;
    fn snd_output_close(output: Handle) -> c_int;
    fn snd_output_putc(output: Handle, c: c_int) -> c_int;
    fn snd_output_puts(output: Handle, text: Text) -> c_int;
    fn snd_output_vprintf(output: Handle, format: Text, args: Handle) -> c_int;
    fn snd_pcm_avail_delay(pcm: Handle, available: *mut c_long, delay: *mut c_long) -> c_int;
    fn snd_pcm_bytes_to_frames(pcm: Handle, bytes: c_long) -> c_long;
    fn snd_pcm_close(pcm: Handle) -> c_int;
    fn snd_pcm_format_physical_width(format: c_int) -> c_int;
    fn snd_pcm_get_params(pcm: Handle, buffer_size: *mut c_ulong, period_size: *mut c_ulong) -> c_int;
    fn snd_pcm_hw_params(pcm: Handle, params: Handle) -> c_int;
    fn snd_pcm_hw_params_any(pcm: Handle, params: Handle) -> c_int;
    fn snd_pcm_hw_params_can_resume(params: Handle) -> c_int;
    fn snd_pcm_hw_params_copy(dst: Handle, src: Handle);
    fn snd_pcm_hw_params_current(pcm: Handle, params: Handle) -> c_int;
    fn snd_pcm_hw_params_free(object: Handle);
    fn snd_pcm_hw_params_get_buffer_size_max(params: Handle, value: *mut c_ulong) -> c_int;
    fn snd_pcm_hw_params_get_channels_max(params: Handle, value: *mut c_uint) -> c_int;
    fn snd_pcm_hw_params_get_channels_min(params: Handle, value: *mut c_uint) -> c_int;
    fn snd_pcm_hw_params_get_period_size(params: Handle, frames: *mut c_ulong, dir: *mut c_int) -> c_int;
    fn snd_pcm_hw_params_get_period_size_max(params: Handle, frames: *mut c_ulong, dir: *mut c_int) -> c_int;
    fn snd_pcm_hw_params_get_period_size_min(params: Handle, frames: *mut c_ulong, dir: *mut c_int) -> c_int;
    fn snd_pcm_hw_params_get_rate_max(params: Handle, value: *mut c_uint, dir: *mut c_int) -> c_int;
    fn snd_pcm_hw_params_get_rate_min(params: Handle, value: *mut c_uint, dir: *mut c_int) -> c_int;
    fn snd_pcm_hw_params_malloc(to: *mut Handle) -> c_int;
    fn snd_pcm_hw_params_set_access(pcm: Handle, params: Handle, access: c_int) -> c_int;
    fn snd_pcm_hw_params_set_buffer_size_near(pcm: Handle, params: Handle, value: *mut c_ulong) -> c_int;
    fn snd_pcm_hw_params_set_channels(pcm: Handle, params: Handle, value: c_uint) -> c_int;
    fn snd_pcm_hw_params_set_format(pcm: Handle, params: Handle, value: c_int) -> c_int;
    fn snd_pcm_hw_params_set_period_size_near(pcm: Handle, params: Handle, value: *mut c_ulong, dir: *mut c_int)
        -> c_int;
    fn snd_pcm_hw_params_set_rate(pcm: Handle, params: Handle, value: c_uint, dir: c_int) -> c_int;
    fn snd_pcm_hw_params_supports_audio_ts_type(params: Handle, kind: c_int) -> c_int;
    fn snd_pcm_hw_params_test_channels(pcm: Handle, params: Handle, value: c_uint) -> c_int;
    fn snd_pcm_hw_params_test_format(pcm: Handle, params: Handle, value: c_int) -> c_int;
    fn snd_pcm_hw_params_test_rate(pcm: Handle, params: Handle, value: c_uint, dir: c_int) -> c_int;
    fn snd_pcm_info(pcm: Handle, info: Handle) -> c_int;
    fn snd_pcm_info_free(object: Handle);
    fn snd_pcm_info_get_name(object: Handle) -> Text;
    fn snd_pcm_info_get_stream(object: Handle) -> c_int;
    fn snd_pcm_info_malloc(to: *mut Handle) -> c_int;
    fn snd_pcm_info_set_device(object: Handle, value: c_uint);
    fn snd_pcm_info_set_stream(object: Handle, value: c_int);
    fn snd_pcm_info_set_subdevice(object: Handle, value: c_uint);
    fn snd_pcm_open(pcm: *mut Handle, name: Text, stream: c_int, mode: c_int) -> c_int;
    fn snd_pcm_pause(pcm: Handle, enable: c_int) -> c_int;
    fn snd_pcm_poll_descriptors(pcm: Handle, descriptors: Handle, space: c_uint) -> c_int;
    fn snd_pcm_poll_descriptors_count(pcm: Handle) -> c_int;
    fn snd_pcm_poll_descriptors_revents(pcm: Handle, descriptors: Handle, count: c_uint, revents: Handle)
        -> c_int;
    fn snd_pcm_prepare(pcm: Handle) -> c_int;
    fn snd_pcm_readi(pcm: Handle, buffer: Handle, size: c_ulong) -> c_long;
    fn snd_pcm_resume(pcm: Handle) -> c_int;
    fn snd_pcm_start(pcm: Handle) -> c_int;
    fn snd_pcm_state(pcm: Handle) -> c_int;
    fn snd_pcm_status(pcm: Handle, status: Handle) -> c_int;
    fn snd_pcm_status_get_audio_htstamp(object: Handle, to: Handle);
    fn snd_pcm_status_get_htstamp(object: Handle, to: Handle);
    fn snd_pcm_status_get_state(object: Handle) -> c_int;
    fn snd_pcm_status_get_trigger_htstamp(object: Handle, to: Handle);
    fn snd_pcm_status_set_audio_htstamp_config(object: Handle, audio_tstamp_config: Handle);
    fn snd_pcm_status_sizeof() -> c_ulong;
    fn snd_pcm_sw_params(pcm: Handle, params: Handle) -> c_int;
    fn snd_pcm_sw_params_current(pcm: Handle, params: Handle) -> c_int;
    fn snd_pcm_sw_params_free(object: Handle);
    fn snd_pcm_sw_params_malloc(to: *mut Handle) -> c_int;
    fn snd_pcm_sw_params_set_avail_min(pcm: Handle, params: Handle, value: c_ulong) -> c_int;
    fn snd_pcm_sw_params_set_start_threshold(pcm: Handle, params: Handle, value: c_ulong) -> c_int;
    fn snd_pcm_sw_params_set_tstamp_mode(pcm: Handle, params: Handle, value: c_int) -> c_int;
    fn snd_pcm_sw_params_set_tstamp_type(pcm: Handle, params: Handle, value: c_int) -> c_int;
    fn snd_pcm_writei(pcm: Handle, buffer: Handle, size: c_ulong) -> c_long;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_when_they_are_called() {
        // SAFETY: it takes nothing and tells a size.
        let size = unsafe { snd_pcm_status_sizeof() };
        assert_eq!(size > 0, is_present());
        // SAFETY: a number is looked at. Format 2 is S16_LE.
        let width = unsafe { snd_pcm_format_physical_width(2) };
        assert_eq!(width, if is_present() { 16 } else { -libc::ENOENT });
        assert!(find("snd_no_such_function\0").is_null());
    }

    /// The null device takes what it is given.
    #[test]
    fn sound_goes_through() {
        if !is_present() {
            eprintln!("skipped: libasound is not installed");
            return;
        }
        let mut pcm = std::ptr::null_mut();
        // SAFETY: as the library's documentation asks: an address to write to, names that end with a zero, a buffer of as
        // many frames as it is said to have.
        unsafe {
            assert_eq!(snd_pcm_open(&mut pcm, c"no such device".as_ptr(), 0, 0), -libc::ENOENT);
            assert_eq!(snd_pcm_open(&mut pcm, c"null".as_ptr(), 0, 0), 0);
            let mut params = std::ptr::null_mut();
            assert_eq!(snd_pcm_hw_params_malloc(&mut params), 0);
            assert!(snd_pcm_hw_params_any(pcm, params) >= 0);
            assert_eq!(snd_pcm_hw_params_set_access(pcm, params, 3), 0);
            assert_eq!(snd_pcm_hw_params_set_format(pcm, params, 2), 0);
            assert_eq!(snd_pcm_hw_params_set_channels(pcm, params, 1), 0);
            assert_eq!(snd_pcm_hw_params_set_rate(pcm, params, 8_000, 0), 0);
            assert_eq!(snd_pcm_hw_params(pcm, params), 0);
            snd_pcm_hw_params_free(params);
            let silence = [0u8; 320];
            assert_eq!(snd_pcm_writei(pcm, silence.as_ptr().cast_mut().cast(), 160), 160);
            assert_eq!(snd_pcm_close(pcm), 0);
        }
    }
}

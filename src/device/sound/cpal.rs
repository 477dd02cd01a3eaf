//! Sound devices through `cpal`: ALSA, and PulseAudio where it is built in.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{
    BufferSize, Device, DeviceId, ErrorKind, FromSample, Host, HostId, Sample, SampleFormat, SizedSample,
    Stream, StreamConfig, SupportedBufferSize,
};

use super::port::{Gauge, Microphone, SoundPort, Speaker};
use super::{Backend, Opened, SoundError, Trouble};
use crate::media::Terminal;

/// Rates that the engine can run a terminal at, the one that costs the least resampling of wide-band calls first.
const RATES: [u32; 3] = [48_000, 16_000, 8_000];
/// The prefix of device names that go to a PulseAudio server.
const PULSE: &str = "pulse:";

/// The devices that the configuration names.
pub struct CpalBackend {
    /// Microphone; `default` is the system's choice.
    pub input: String,
    /// Loudspeaker.
    pub output: String,
    /// A loudspeaker of its own for ringing.
    pub ring: Option<String>,
    /// The connection to the PulseAudio server, which is kept: cpal leaves a thread and a socket behind for each that is not.
    server: RefCell<Option<Host>>,
}

impl CpalBackend {
    /// A back-end of these devices.
    pub fn new(input: String, output: String, ring: Option<String>) -> CpalBackend {
        CpalBackend { input, output, ring, server: RefCell::default() }
    }

    fn open_with(&self, block: Block, troubles: SyncSender<Trouble>) -> Result<Opened, SoundError> {
        let output = self.find(&self.output, true)?;
        let input = self.find(&self.input, false)?;
        let (rate, speaker_format, size) = choose(&output, true, None, block)?;
        let (_, microphone_format, _) = choose(&input, false, Some(rate), block)?;
        let mut ends = SoundPort::pair(rate, size);
        let complaints = Complaints { troubles, gauge: ends.port.gauge() };
        let mut keep = vec![
            play(&output, &speaker_format, ends.speaker, complaints.clone())?,
            capture(&input, &microphone_format, ends.microphone, complaints.clone())?,
        ];
        for (stream, device) in keep.iter().zip([&self.output, &self.input]) {
            stream.play().map_err(|error| blame(device, &error))?;
        }
        let ring = self.ring.as_ref().and_then(|name| {
            let opened = self.open_ring(name, &mut ends.port, complaints);
            let told = opened.map_err(|error| tracing::warn!("it rings at the loudspeaker instead: {error}"));
            let (rate, stream) = told.ok()?;
            keep.push(stream);
            Some(rate)
        });
        Ok(Opened {
            terminal: Terminal::Device { rate, ring },
            port: Some(ends.port),
            output: None,
            keep: Box::new(keep),
        })
    }

    fn open_ring(
        &self,
        name: &str,
        port: &mut SoundPort,
        complaints: Complaints,
    ) -> Result<(u32, Stream), SoundError> {
        let device = self.find(name, true)?;
        let (rate, format, size) = choose(&device, true, None, Block::Fixed)?;
        let speaker = port.add_ringer(rate, size);
        let stream = play(&device, &format, speaker, complaints)?;
        stream.play().map_err(|error| blame(name, &error))?;
        Ok((rate, stream))
    }

    fn find(&self, name: &str, output: bool) -> Result<Device, SoundError> {
        match name.strip_prefix(PULSE) {
            None => find(&alsa_host()?, HostId::Alsa, name, output),
            Some(name) => {
                let mut server = self.server.borrow_mut();
                let host = match server.take() {
                    Some(host) => host,
                    None => pulse()?,
                };
                let found = find(&host, host.id(), name, output);
                // Another one is made when this one's server is gone.
                if found.is_ok() || host.devices().is_ok() {
                    *server = Some(host);
                }
                found
            }
        }
    }
}

impl Backend for CpalBackend {
    fn look(&self) -> Result<(), SoundError> {
        let _silenced = alsa::Output::local_error_handler();
        self.find(&self.output, true)?;
        self.find(&self.input, false).map(drop)
    }

    fn open(&self, troubles: SyncSender<Trouble>) -> Result<Opened, SoundError> {
        // libasound prints to stderr by itself whenever it probes; its words come back as errors anyway.
        let _silenced = alsa::Output::local_error_handler();
        match self.open_with(Block::Fixed, troubles.clone()) {
            Err(SoundError::Refused { .. }) => self.open_with(Block::Any, troubles),
            opened => opened,
        }
    }
}

/// What size of blocks a device is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    /// 20 ms or a little more.
    Fixed,
    /// What it likes: it refuses the other.
    Any,
}

fn find(host: &Host, kind: HostId, name: &str, output: bool) -> Result<Device, SoundError> {
    let missing = || SoundError::Missing { device: name.to_owned(), known: known(host, output) };
    if name == "default" {
        let device = if output { host.default_output_device() } else { host.default_input_device() };
        return device.ok_or_else(missing);
    }
    // In full, or as ALSA's users write it: `hw:0`.
    if let Some(device) = host.device_by_id(&DeviceId::new(kind, name)) {
        return Ok(device);
    }
    let devices = host.devices().map_err(|error| blame(name, &error))?;
    let mut called: Vec<Device> =
        devices.into_iter().filter(|device| names(device).iter().any(|known| known == name)).collect();
    // The loudspeaker and the microphone of a card may have one name.
    let fits = called.iter().position(|device| supports(device, output)).unwrap_or(0);
    if called.is_empty() { Err(missing()) } else { Ok(called.swap_remove(fits)) }
}

fn supports(device: &Device, output: bool) -> bool {
    if output { device.supports_output() } else { device.supports_input() }
}

/// ALSA asked for by name: the default host panics where the machine has no ALSA configuration.
fn alsa_host() -> Result<Host, SoundError> {
    if !libasound::is_present() {
        return Err(SoundError::NoAlsa);
    }
    cpal::host_from_id(HostId::Alsa).map_err(|error| blame("alsa", &error))
}

#[cfg(feature = "pulseaudio")]
fn pulse() -> Result<Host, SoundError> {
    cpal::host_from_id(HostId::PulseAudio).map_err(|error| blame("pulse", &error))
}

#[cfg(not(feature = "pulseaudio"))]
fn pulse() -> Result<Host, SoundError> {
    Err(SoundError::NoPulse)
}

/// What a device may be called by: its identifier with or without the host, and its name.
fn names(device: &Device) -> Vec<String> {
    let mut names = Vec::new();
    if let Ok(id) = device.id() {
        let id = id.to_string();
        if let Some((_, bare)) = id.split_once(':') {
            names.push(bare.to_owned());
        }
        names.push(id);
    }
    if let Ok(description) = device.description() {
        names.push(description.name().to_owned());
    }
    names
}

fn known(host: &Host, output: bool) -> Vec<String> {
    let Ok(devices) = host.devices() else { return Vec::new() };
    devices
        .filter(|device| supports(device, output))
        .filter_map(|device| names(&device).into_iter().next())
        .take(16)
        .collect()
}

/// A format that the device offers: its rate (the given one, if any), its configuration and samples per callback.
fn choose(
    device: &Device,
    output: bool,
    rate: Option<u32>,
    block: Block,
) -> Result<(u32, Format, usize), SoundError> {
    let name = names(device).into_iter().next().unwrap_or_default();
    let refuse = |error: cpal::Error| blame(&name, &error);
    let offers: Vec<_> = if output {
        device.supported_output_configs().map_err(refuse)?.collect()
    } else {
        device.supported_input_configs().map_err(refuse)?.collect()
    };
    let rates = rate.map_or(RATES.to_vec(), |rate| vec![rate]);
    for rate in rates {
        let fits = |offer: &&cpal::SupportedStreamConfigRange| {
            offer.min_sample_rate() <= rate
                && rate <= offer.max_sample_rate()
                && matches!(offer.sample_format(), SampleFormat::I16 | SampleFormat::F32 | SampleFormat::I32)
        };
        let best = offers
            .iter()
            .filter(fits)
            .min_by_key(|offer| (offer.sample_format() != SampleFormat::I16, offer.channels()));
        if let Some(offer) = best {
            // A power of two, which sound systems like best and some have alone (ALSA's dmix: 1024).
            let wish = (rate / 50).next_power_of_two();
            let size = match *offer.buffer_size() {
                SupportedBufferSize::Range { min, max } if min <= max => wish.clamp(min, max),
                _ => wish,
            };
            let config = StreamConfig {
                channels: offer.channels(),
                sample_rate: rate,
                buffer_size: if block == Block::Fixed {
                    BufferSize::Fixed(size)
                } else {
                    BufferSize::Default
                },
            };
            return Ok((rate, Format { config, sample: offer.sample_format() }, size as usize));
        }
    }
    Err(SoundError::NoRate { device: name })
}

struct Format {
    config: StreamConfig,
    sample: SampleFormat,
}

fn play(
    device: &Device,
    format: &Format,
    speaker: Speaker,
    complaints: Complaints,
) -> Result<Stream, SoundError> {
    match format.sample {
        SampleFormat::I16 => play_as::<i16>(device, &format.config, speaker, complaints),
        SampleFormat::I32 => play_as::<i32>(device, &format.config, speaker, complaints),
        _ => play_as::<f32>(device, &format.config, speaker, complaints),
    }
}

fn play_as<S: SizedSample + FromSample<i16>>(
    device: &Device,
    config: &StreamConfig,
    mut speaker: Speaker,
    complaints: Complaints,
) -> Result<Stream, SoundError> {
    let channels = usize::from(config.channels.max(1));
    let callback = move |samples: &mut [S], _: &cpal::OutputCallbackInfo| {
        speaker.block(samples.len() / channels);
        for frame in samples.chunks_mut(channels) {
            frame.fill(S::from_sample(speaker.pull()));
        }
    };
    device
        .build_output_stream(*config, callback, move |error| complaints.take(&error), None)
        .map_err(|error| blame("output", &error))
}

fn capture(
    device: &Device,
    format: &Format,
    microphone: Microphone,
    complaints: Complaints,
) -> Result<Stream, SoundError> {
    match format.sample {
        SampleFormat::I16 => capture_as::<i16>(device, &format.config, microphone, complaints),
        SampleFormat::I32 => capture_as::<i32>(device, &format.config, microphone, complaints),
        _ => capture_as::<f32>(device, &format.config, microphone, complaints),
    }
}

fn capture_as<S: SizedSample>(
    device: &Device,
    config: &StreamConfig,
    mut microphone: Microphone,
    complaints: Complaints,
) -> Result<Stream, SoundError>
where
    i16: FromSample<S>,
{
    let channels = usize::from(config.channels.max(1));
    let callback = move |samples: &[S], _: &cpal::InputCallbackInfo| {
        microphone.block();
        for frame in samples.chunks(channels) {
            if let Some(first) = frame.first() {
                microphone.push(i16::from_sample(*first));
            }
        }
    };
    device
        .build_input_stream(*config, callback, move |error| complaints.take(&error), None)
        .map_err(|error| blame("input", &error))
}

/// Where the sound system's complaints about a stream go.
#[derive(Clone)]
struct Complaints {
    troubles: SyncSender<Trouble>,
    gauge: Arc<Gauge>,
}

impl Complaints {
    /// Tells what ends a stream, and counts what the device gets over.
    fn take(&self, error: &cpal::Error) {
        match error.kind() {
            ErrorKind::DeviceNotAvailable | ErrorKind::StreamInvalidated | ErrorKind::HostUnavailable => {
                // The queue holds the first complaint already if it is full.
                let _ = self.troubles.try_send(Trouble { why: error.to_string() });
            }
            ErrorKind::Xrun => self.gauge.was_late(),
            _ => {}
        }
    }
}

fn blame(device: &str, error: &cpal::Error) -> SoundError {
    SoundError::Refused { device: device.to_owned(), why: error.to_string() }
}

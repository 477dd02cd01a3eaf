//! The world that the phone is tested in: whole phones, a PBX, NAT boxes and bad weather, in virtual time and
//! from a seed. Nothing here opens a socket or sleeps.

mod clock;
mod edges;
mod gateway;
mod handset;
mod names;
mod nat;
mod network;
mod script;
mod sound_card;
mod storm;
mod streams;
mod turn;
mod world;

mod agreements;
mod bad_input;
mod bad_network;
mod basic_calls;
mod callbacks;
mod discovery;
mod during_calls;
mod flows;
mod intercom;
mod lookup;
mod matrix;
mod mqtt;
mod numbers;
mod one_way;
mod parties;
mod paths;
mod providers;
mod rating;
mod reach;
mod recordings;
mod referred;
mod registering;
mod replaced;
mod rtcp;
mod rules;
mod secrets;
mod sticky;
mod transfers;
mod transports;
mod two_flows;
mod voicemail;

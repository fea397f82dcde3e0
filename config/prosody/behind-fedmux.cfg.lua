-- What a Prosody behind fedmux needs, in one file for Debian's /etc/prosody/conf.d. "fedmux", "s2s_bidi", "smacks" and "saslauth"
-- have to stand in modules_enabled besides, in /etc/prosody/prosody.cfg.lua: a second list here would replace the one there.

-- The relay delivers here: deliver = "127.0.0.1:5267" in fedmux.toml. Port 5269, where the world asks for you, is the relay's now.
s2s_ports = { 5267 }
s2s_interfaces = { "127.0.0.1" }
s2s_direct_tls_ports = {}

-- Where Prosody finds the relay, [local] s2s in fedmux.toml. These are the defaults.
fedmux_address = "127.0.0.1"
fedmux_port = 5266

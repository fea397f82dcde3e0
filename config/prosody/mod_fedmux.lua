-- mod_fedmux: all server-to-server traffic of this Prosody goes through a fedmux relay.
--
-- For Prosody 0.12 and later; tested with 0.12.3. Put this file into a folder that plugin_paths names, add "fedmux" to the global
-- modules_enabled (and "s2s_bidi", "smacks" beside it). Options, all global:
--
--   fedmux_address  string  "127.0.0.1"         IP address of the relay's [local] s2s listener
--   fedmux_port     number  5266                its port
--   fedmux_sources  set     { fedmux_address }  IP addresses or networks ("10.0.0.5", "10.0.0.0/29") from which the relay
--                                               connects to us
--   fedmux_unacked_max  number  10000           stanzas of one stream that are kept until the relay has acknowledged them
--
-- The relay speaks TLS with the rest of the world and has verified who is at the other end before a stanza reaches us.
-- Between the relay and us there is plain TCP, on loopback or a private wire. So a stream to or from the relay counts as
-- encrypted and authenticated here: SASL EXTERNAL, bidi (XEP-0288) and stream management (XEP-0198) then work without a
-- certificate of ours, and s2s_require_encryption and s2s_secure_auth stay on for every other stream.
--
-- WHOEVER CAN CONNECT FROM AN ADDRESS IN fedmux_sources SPEAKS FOR EVERY REMOTE DOMAIN. On 127.0.0.1 that is every local
-- process. If that is too many, use dialback (configuration-only.cfg.lua), or a network namespace for the two.

module:set_global();

local filters = require "util.filters";
local ip = require "util.ip";
local smqueue = require "util.smqueue";
local st = require "util.stanza";
local timer = require "util.timer";
local xml = require "util.xml";
local manual_resolver = require "net.resolvers.manual";
local service_resolver = require "net.resolvers.service";

local relay_address = module:get_option_string("fedmux_address", "127.0.0.1");
local relay_port = module:get_option_number("fedmux_port", 5266);
local relay_sources = module:get_option_set("fedmux_sources", { relay_address });
local unacked_max = module:get_option_number("fedmux_unacked_max", 10000);

local relay_ip = ip.new_ip(relay_address);
if not relay_ip then
	error(("fedmux_address is %q, which is no IP address; write the address of the relay's [local] s2s listener"):format(relay_address), 0);
elseif relay_port < 1 or relay_port > 65535 or relay_port % 1 ~= 0 then
	error(("fedmux_port is %s; write the port of the relay's [local] s2s listener"):format(relay_port), 0);
elseif unacked_max < 1 or unacked_max % 1 ~= 0 then
	error(("fedmux_unacked_max is %s; write how many stanzas may wait for the relay's acknowledgement, or leave it out"):format(unacked_max), 0);
end

local trusted_networks = {};
for source in relay_sources do
	local network, bits = ip.parse_cidr(source);
	if not network or (source:find("/", 1, true) and not bits) then
		error(("fedmux_sources contains %q, which is neither an IP address nor a network"):format(source), 0);
	end
	table.insert(trusted_networks, { network = network; bits = bits });
end

local function is_trusted_source(address)
	local peer = address and ip.new_ip(address);
	if not peer then return false; end
	for _, trusted in ipairs(trusted_networks) do
		-- util.ip.match reads an address of the other family as an embedded one; "0.0.0.0/0" shall not mean IPv6 too.
		if peer.proto == trusted.network.proto and ip.match(peer, trusted.network, trusted.bits) then
			return true;
		end
	end
	return false;
end

-- Where a stream to a remote domain leads -----------------------------------------------------------------------------

-- mod_s2s asks net.resolvers.service for every domain that it dials, looking the function up at the time of the call.
-- 0.12 has no event between "which domain" and "which address", so this function is the one place to step in.
local look_up_service = service_resolver.new;
local loaded = true;

local function lead_to_relay(hostname, service, conn_type, extra)
	if not loaded then
		return look_up_service(hostname, service, conn_type, extra);
	elseif service == "xmpp-server" then
		local family = relay_ip.proto == "IPv6" and "tcp6" or "tcp4";
		return manual_resolver.new({ { family, relay_address, relay_port, extra } }, conn_type, extra);
	elseif service == "xmpps-server" then
		-- Asked first if mod_tls found a certificate. The relay's local side has no Direct TLS: no target, go on.
		return manual_resolver.new({}, conn_type, extra);
	end
	return look_up_service(hostname, service, conn_type, extra);
end

service_resolver.new = lead_to_relay;

function module.unload()
	loaded = false;
	-- Another module may have put its function over ours and still call us: then ours stays, and only passes on.
	if service_resolver.new == lead_to_relay then
		service_resolver.new = look_up_service;
	end
end

-- What a stream to or from the relay counts as ------------------------------------------------------------------------

local function trust_stream(session)
	session.fedmux = true;
	-- What TLS would have set. mod_saslauth offers and takes up EXTERNAL only on a secure stream, mod_s2s_bidi likewise.
	session.secure = true;
	-- Not nil, or mod_tls makes a context, and with s2s_require_encryption asks for TLS even where none is offered.
	session.ssl_ctx = false;
end

-- Both events fire on the global context before the stream's first octet, for components' streams as well: components
-- inherit only the modules that modulemanager lists, so a hook on each host would miss rooms and gateways.
module:hook("s2sout-connected", function (event)
	local conn = event.session.conn;
	-- A resolver that another module put in may have led elsewhere; that stream is none of our business.
	if ip.new_ip(conn:ip()) == relay_ip and conn:port() == relay_port then
		trust_stream(event.session);
	end
end);

module:hook("s2sin-connected", function (event)
	if is_trusted_source(event.session.conn:ip()) then
		trust_stream(event.session);
	end
end);

-- mod_s2s asks this for each secure stream, once it knows the remote domain. Above mod_s2s_auth_certs, which would find no
-- certificate; its answer also ends the chain, so that s2s_secure_auth does not close the stream.
module:hook("s2s-check-certificate", function (event)
	local session = event.session;
	if not session.fedmux then return; end
	session.cert_chain_status = "valid";
	session.cert_identity_status = "valid";
	return true;
end, 1000);

-- When a stream may carry our stanzas ---------------------------------------------------------------------------------

-- Stream management (XEP-0198) is what tells us which stanzas the relay took when it dies, and mod_smacks returns the others to
-- their senders. It covers what is sent as a stanza after <enable/>, and of that the last smacks_max_queue_size. mod_s2s would send
-- too early, or otherwise:
--   * Outgoing, from <success/> on: a stanza sent before the new <features/> overtakes those that wait for them.
--   * Outgoing, with the new <features/>: what has waited for them goes out before <enable/>, and as text.
--   * Incoming with bidi, from <success/> on: a stanza sent before the restart stands between <success/> and our new stream
--     header, outside of any document; no XML parser accepts it, and it is lost.
-- So we hold every stanza until the stream is ready and stream management is on, if it will be; and while it is on we count.

local xmlns_sm = "urn:xmpp:sm:3";
local xmlns_streams = "http://etherx.jabber.org/streams";
local xmlns_sasl = "urn:ietf:params:xml:ns:xmpp-sasl";
local SMACKS_TURN_SECONDS = 0.001; -- mod_smacks sends its <enable/> from a timer that is due before this
local SMACKS_TURNS_MAX = 1000; -- for a clock that steps, or a Prosody that has no time
local RELAY_SECONDS = 20; -- between a stream's authentication and stream management; the relay's own patience with a handshake

local function is_message_presence_or_iq(data)
	return st.is_stanza(data) and not data.attr.xmlns and (data.name == "message" or data.name == "presence" or data.name == "iq");
end

local function bounce(host, stanza, condition, text)
	if stanza.attr.type ~= "error" and stanza.attr.type ~= "result" then
		module:context(host):send(st.error_reply(stanza, "wait", condition, text));
	end
end

-- mod_smacks gives every stream a queue of smacks_max_queue_size, 500 by default, from which the oldest fall silently. Double ours
-- when it is full, up to our own bound; false: there is no room for another stanza.
local function make_room(session)
	local queue = session.outgoing_stanza_queue;
	local size, unacked = queue._queue.size, queue:count_unacked();
	if unacked >= unacked_max then return false; end
	if unacked < size then return true; end
	local larger = smqueue.new(math.min(2 * size, unacked_max));
	for _, stanza in queue:resume() do
		larger:push(stanza);
	end
	larger._head, larger._tail = queue._head, queue._tail;
	session.outgoing_stanza_queue = larger;
	return true;
end

local function has_smacks(host)
	return prosody.hosts[host] and prosody.hosts[host].modules.smacks;
end

local function is_covered(session)
	return session.smacks and session.outgoing_stanza_queue and true or false;
end

-- Hold what `host` sends over this stream until session.fedmux_release is called. `on_sent`, if given, sees every other element after
-- it was sent.
local function hold_stanzas(session, host, on_sent)
	local send = session.sends2s;
	local held = { host = host }; -- a destroyed session forgets its host
	session.fedmux_held = held;

	local function hold_or_send(data)
		if not is_message_presence_or_iq(data) then
			local sent = send(data);
			if on_sent and st.is_stanza(data) then on_sent(data); end
			return sent;
		end
		local waits = session.fedmux_held == held;
		if (waits and #held >= unacked_max) or (is_covered(session) and not make_room(session)) then
			bounce(host, data, "resource-constraint", "Too many stanzas wait for the relay");
		elseif waits then
			table.insert(held, st.clone(data));
		else
			return send(data);
		end
		return true; -- or mod_s2s takes the stream for dead and dials
	end
	session.sends2s = hold_or_send;

	function session.fedmux_release()
		if session.fedmux_held ~= held then return; end -- released already, or destroyed
		session.fedmux_held = nil;
		for _, stanza in ipairs(held) do
			-- A closed stream has another function there, which refuses.
			if not session.sends2s(stanza) then
				bounce(host, stanza, "remote-server-timeout", "The stream to the relay ended before it was ready");
			end
		end
	end
end

local told_that_uncovered = false;
local function release_uncovered(session)
	if session.fedmux_held and not told_that_uncovered then
		told_that_uncovered = true;
		module:log("warn", "A stream to the relay does without stream management: what the relay hasn't passed on when it dies is lost; said once");
	end
	session.fedmux_release();
end

-- A relay that is silent after the authentication may be stuck, or dead behind a proxy: nothing is handed to it.
local function close_if_still_held(session)
	local held = session.fedmux_held;
	timer.add_task(RELAY_SECONDS, function ()
		if held and session.fedmux_held == held then
			session:close("connection-timeout");
		end
	end);
end

module:hook("s2sout-connected", function (event)
	local session = event.session;
	if not session.fedmux then return; end
	hold_stanzas(session, session.from_host);
	filters.add_filter(session, "stanzas/in", function (stanza)
		if stanza.name == "success" and stanza.attr.xmlns == xmlns_sasl then
			close_if_still_held(session);
		elseif stanza.name == "features" and stanza.attr.xmlns == xmlns_streams then
			session.fedmux_sm = stanza:get_child("sm", xmlns_sm) ~= nil;
		end
		return stanza;
	end);
end, -1);

-- What mod_s2s has queued is text by now: make stanzas of it again, in front of what we hold. What we leave it sends.
local function take_queued(session, held)
	local queued = session.sendq or {};
	local taken, left = {}, {};
	for index, item in ipairs(queued) do
		local stanza = xml.parse(item[1]);
		if is_message_presence_or_iq(stanza) then
			table.insert(taken, stanza);
		else
			table.insert(left, item);
		end
		queued[index] = nil;
	end
	table.move(left, 1, #left, 1, queued);
	table.move(held, 1, #held, #taken + 1);
	table.move(taken, 1, #taken, 1, held);
end

-- Fires just before mod_s2s sends what it has queued.
module:hook("s2sout-established", function (event)
	local session = event.session;
	if not session.fedmux_held then return; end
	take_queued(session, session.fedmux_held);
	local turns = 0;
	timer.add_task(SMACKS_TURN_SECONDS, function ()
		turns = turns + 1;
		if session.destroyed or is_covered(session) then
			if session.fedmux_release then session.fedmux_release(); end
		elseif session.fedmux_sm and has_smacks(session.from_host) and turns < SMACKS_TURNS_MAX then
			return SMACKS_TURN_SECONDS;
		else
			release_uncovered(session);
		end
	end);
end);

module:hook("s2sin-established", function (event)
	local session = event.session;
	if not (session.fedmux and session.outgoing and session.external_auth == "succeeded") then return; end

	local restarted = false;
	hold_stanzas(session, session.to_host, function (sent)
		if sent.name == "enabled" then
			session.fedmux_release();
		elseif sent.name == "stream:features" then
			restarted = true;
			if not sent:get_child("sm", xmlns_sm) then release_uncovered(session); end
		end
	end);
	close_if_still_held(session);
	-- A relay that wants stream management turns it on at once: if anything else comes first, there is nothing to wait for.
	filters.add_filter(session, "stanzas/in", function (stanza)
		if restarted and session.fedmux_held and stanza.attr.xmlns ~= xmlns_sm then
			release_uncovered(session);
		end
		return stanza;
	end);
end, 1000);

module:hook("s2s-destroyed", function (event)
	local session = event.session;
	local held = session.fedmux_held;
	if not held then return; end
	session.fedmux_held = nil;
	for _, stanza in ipairs(held) do
		bounce(held.host, stanza, "remote-server-timeout", "The stream to the relay ended before it was ready");
	end
end);

local enabled = module:get_option_set("modules_enabled", {});
if not enabled:contains("smacks") or module:get_option_boolean("smacks_enabled_s2s", true) == false then
	module:log("warn", "Without mod_smacks between servers, what the relay hasn't passed on when it dies is lost without a word: add \"smacks\" to the global modules_enabled, and leave smacks_enabled_s2s alone");
end

module:log("info", "Streams to remote servers go to the relay at %s port %d; it is recognised by %s", relay_address, relay_port, relay_sources);

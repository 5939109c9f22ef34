-- Renews. KEYS: the generation, the used mark, the record, its mark, the task, then gates and bindings, then
-- index entries and the expiry partition. ARGV: plan, pairs, evidence, the body as it was read, the next body
-- (empty: the same).
local id, reads, binding_at, index_at, indexes, subjects, mine, mode, used_until, ttl, signer =
  unp('>c16BBBBBBBI8I8c16', ARGV[2])
local v = call('MGET', unpack(KEYS, 1, reads))
local no = begin(v[1])
if no then return no end
if spent(v[2]) then return {10} end
local p
no, p = present(ARGV[4], v, binding_at, false)
if no then return no end
local _, late, blocked = observe(ARGV[3], subjects, p, v)
if late < 255 then return {13, late} end
local r = v[3]
if not r then return {23} end
local body_at = 75 + unp('>I2', r, 73)
if sub(r, body_at) ~= ARGV[5] then return {32} end
if mine == 0 then return {30} end
if bit.band(byte(r, 4), 1) ~= 0 then return {31} end
local keys, n = carried(r)
local w = {}
if #keys > 0 then w = call('MGET', unpack(keys)) end
no = judge(r, v[4], keys, n, w)
if no then return no end
if blocked == 255 then
  local i = any_blocked(w, n)
  if i then blocked = subjects + i - 1 end
end
if blocked < 255 then return {14, blocked} end
local bound = u64(r, 25)
local t = v[5]
if t and now < u64(t, 19) then
  if byte(t, 2) ~= 0 then return {17} end
  bound = min(bound, u64(t, 11))
end
local expires = min(now + ttl, bound)
expires = expires - expires % 1000
if expires <= now then return {31} end
expires = max(expires, u64(r, 17))
local counter = u32(r, 5) + 1
if counter > 4294967295 then return {31} end
if elsewhere(p) then return {3} end

put(KEYS[2], pack('>I8', used_until), used_until)
for i = index_at, index_at + indexes - 1 do enter(KEYS[i], id, expires, mode) end
enter(KEYS[index_at + indexes], id, expires)
local body = ARGV[6] ~= '' and ARGV[6] or ARGV[5]
r = sub(r, 1, 4) .. pack('>I4', counter) .. sub(r, 9, 16) .. pack('>I8', expires) .. sub(r, 25, 56) .. signer
  .. sub(r, 73, body_at - 1) .. body
put(KEYS[3], r, expires + 2 * SKEW_MS)
bind(p, v, '')
return {0, r, keys_version()}

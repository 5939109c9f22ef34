-- Mints: binds, observes, refuses, counts and writes in one step. `lease::transition::mint` in Lua.
-- KEYS: the generation, then everything that is read, then index entries, expiry partition, record.
local plan = ARGV[2]
local reads, used_at, task_at, binding_at, bucket_at, marks_at, marks, index_at, indexes, subjects, kind,
  id, used_until, ttl, lineage, not_after, parent_expires, signer =
  unp('>BBBBBBBBBBBc16I8I8I8I8I8c16', plan)
local v = call('MGET', unpack(KEYS, 1, reads))
local no = begin(v[1])
if no then return no end
if used_at > 0 and spent(v[used_at]) then return {10} end
local p
no, p = present(ARGV[4], v, binding_at, true)
if no then return no end
local pairs, late, blocked = observe(ARGV[3], subjects, p, v)
if late < 255 then return {13, late} end

-- kind: 1 side effect, 2 lineage too deep or wide, 4 has a parent, 8 its generation is another; 16 times the mode
if bit.band(kind, 4) ~= 0 then
  if now >= parent_expires then return {25} end
  if bit.band(kind, 8) ~= 0 then return {21} end
  local parents = ARGV[9]
  for i = 1, #parents, 7 do
    local g, fence = unp('>BI6', parents, i)
    local current = fence_of(v[g])
    if current and current ~= fence then return {21} end
  end
  for i = marks_at, marks_at + marks - 1 do
    if stands(v[i]) then return {21} end
  end
end
if bit.band(kind, 2) ~= 0 then return {22} end
if blocked < 255 then return {14, blocked} end

local bound = min(not_after, parent_expires)
local task, task_keep = false, nil
if task_at > 0 then
  local ends
  no, task, ends, task_keep = join(v[task_at], ARGV[5], ARGV[6])
  if no then return no end
  bound = min(bound, ends)
end
local renewable = min(now + lineage, bound)
renewable = renewable - renewable % 1000
local expires = min(now + ttl, renewable)
expires = expires - expires % 1000
if expires <= now then return {20} end

local quotas = ARGV[10]
local count = #quotas / 13
local answer = {0, false, false, 0, -1, 0}
for n = 0, count - 1 do
  local index, most = unp('>BI4', quotas, n * 13 + 1)
  local held = live(KEYS[index])
  if held >= most then return {15, n} end
  answer[7 + n] = held + 1
end
local arrivals = {}
for n = 0, count - 1 do
  local per_min, burst = unp('>I4I4', quotas, n * 13 + 6)
  local interval = floor(60000000 / max(per_min, 1))
  local ahead = interval * (max(burst, 1) - 1)
  local bucket = v[bucket_at + n]
  local arrival = max(bucket and u64(bucket) or 0, now * 1000)
  if arrival > now * 1000 + ahead then
    return {16, n, math.ceil((arrival - now * 1000 - ahead) / 1000)}
  end
  arrivals[n] = arrival + interval
end
if elsewhere(p) then return {3} end

for n = 0, count - 1 do
  put(KEYS[bucket_at + n], pack('>I8', arrivals[n]), math.ceil(arrivals[n] / 1000))
end
if used_at > 0 then put(KEYS[used_at], pack('>I8', used_until), used_until) end
for i = index_at, index_at + indexes - 1 do enter(KEYS[i], id, expires, floor(kind / 16)) end
enter(KEYS[index_at + indexes], id, expires)
local side_effect = bit.band(kind, 1)
local confirm_by = now + MINT_DEADLINE_MS
local observation = '\1' .. sub(head, 3, 14) .. string.char(#pairs) .. table.concat(pairs) .. ARGV[8]
local record = pack('>BBBBI4I8I8I8I8', 1, 1 - side_effect, 0, side_effect, 0, now, expires, renewable, confirm_by)
  .. ZEROS .. signer .. pack('>I2', #observation) .. observation .. ARGV[7]
if side_effect == 1 then
  call('SET', KEYS[index_at + indexes + 1], record)
  call('ZADD', 'mf:u', confirm_by, id)
else
  put(KEYS[index_at + indexes + 1], record, expires + 2 * SKEW_MS)
end
if task_keep then put(KEYS[task_at], task, task_keep) end
local moved = bind(p, v, ARGV[11], id)
if moved then open_job('mf:j:{j' .. id .. '}', id, p.moved, ARGV[12], GATE, moved) end
answer[2], answer[3] = record, task
if #p.names > 0 then answer[4] = 1 end
answer[5] = p.changes or -1
answer[6] = keys_version()
return answer

-- Ends a task. KEYS: the generation, the task, its gate, the job, the used mark, then bindings and the
-- observed gates, then its index. ARGV: the job's id, the job, evidence, plan, the body of a task that nobody opened, words
-- for its gate. `by`: 0 an operator, 1 a workload, 2 somebody else.
local reads, binding_at, spends, by, used_until, keep, owner, id = unp('>BBBBI8I8c16c16', ARGV[5])
local v = call('MGET', unpack(KEYS, 1, reads))
local no = begin(v[1])
if no then return no end
if spends == 1 and spent(v[5]) then return {10} end
local p
no, p = present(ARGV[4], v, binding_at, false)
if no then return no end
local t = v[2]
if t and now >= u64(t, 19) then t = false end
if t and by > 0 and sub(t, 27, 42) ~= owner then return {18} end
if not t and by ~= 1 then return {23} end
local function settle()
  if spends == 1 then put(KEYS[5], pack('>I8', used_until), used_until) end
  bind(p, v, '')
end
if t and byte(t, 2) ~= 0 then
  settle()
  return {0, now, tonumber(call('GET', 'mf:changes') or 0), t, false, 0, {}}
end
local started, ends, kept, rest = now, now, now, owner .. ARGV[6]
if t then
  started, ends, kept = unp('>I8I8I8', t, 3)
  rest = sub(t, 27)
end
kept = max(kept, now + keep, ends)
settle()
t = pack('>BBI8I8I8', 1, 1, started, ends, kept) .. rest
put(KEYS[2], t, kept)
local gate, fence = move_fence(KEYS[3], id, v[3], ARGV[7])
return {0, now, open_job(KEYS[4], ARGV[2], fence, ARGV[3], GATE, told(id, gate)), t, gate, fence, exposure(KEYS[reads + 1])}

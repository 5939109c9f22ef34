-- Stores followers' signs of life. KEYS: the generation. ARGV[2] and on, for each: its id (16), the number that it has
-- applied and for how long it is known (8 each), what it said.
local no = begin(call('GET', KEYS[1]))
if no then return no end
local changes = tonumber(call('GET', 'mf:changes') or 0)
for first = 2, #ARGV, 1000 do
  local said, applied, known = {}, {}, {}
  for i = first, min(first + 999, #ARGV) do
    local id, number, length = unp('>c16I8I8', ARGV[i])
    if number > changes then number = 0 end
    local n = #said
    said[n + 1], said[n + 2] = id, pack('>I8I8', now, number) .. sub(ARGV[i], 33)
    applied[n + 1], applied[n + 2] = number, id
    known[n + 1], known[n + 2] = now + length, id
  end
  call('HSET', 'mf:followers', unpack(said))
  call('ZADD', 'mf:followers:applied', unpack(applied))
  call('ZADD', 'mf:followers:known', unpack(known))
end
return {0, changes, now}

-- The followers that have not applied a number (ARGV[2], 8); those that are known no longer are forgotten. KEYS: the
-- generation.
local no = begin(call('GET', KEYS[1]))
if no then return no end
repeat
  local over = call('ZRANGEBYSCORE', 'mf:followers:known', '-inf', now, 'LIMIT', 0, 1000)
  forget(over)
until #over < 1000
local ids = call('ZRANGEBYSCORE', 'mf:followers:applied', '-inf', u64(ARGV[2]) - 1)
local all = {}
for at = 1, #ids, 1000 do
  local some = {}
  for i = at, min(at + 999, #ids) do some[#some + 1] = ids[i] end
  for i, said in ipairs(call('HMGET', 'mf:followers', unpack(some))) do
    if said then all[#all + 1] = some[i] .. said end
  end
end
return {0, now, all}

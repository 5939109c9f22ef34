-- The brokers that live; others are forgotten. KEYS: the generation.
local no = begin(call('GET', KEYS[1]))
if no then return no end
local all, live = call('HGETALL', 'mf:brokers'), {}
for i = 1, #all, 2 do
  if now < u64(all[i + 1]) then
    live[#live + 1] = all[i]
    live[#live + 1] = all[i + 1]
  else
    call('HDEL', 'mf:brokers', all[i])
  end
end
return {0, live}

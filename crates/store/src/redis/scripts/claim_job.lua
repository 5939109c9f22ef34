-- Claims an open job for a while. KEYS: the generation. ARGV[2]: how long, in ms.
local no = begin(call('GET', KEYS[1]))
if no then return no end
for _, id in ipairs(call('ZRANGEBYSCORE', 'mf:jobs', '-inf', now, 'LIMIT', 0, 8)) do
  local job = call('GET', 'mf:j:{j' .. id .. '}')
  if job then
    call('ZADD', 'mf:jobs', now + u64(ARGV[2]), id)
    return {0, job}
  end
  call('ZREM', 'mf:jobs', id)
end
return {0, false}

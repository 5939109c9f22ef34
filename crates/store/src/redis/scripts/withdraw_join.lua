-- Takes an open join token back. KEYS: the generation. ARGV[2]: its id.
local no = begin(call('GET', KEYS[1]))
if no then return no end
local hash = call('HGET', 'mf:joins', ARGV[2])
if not hash then return {0, false} end
local key = 'mf:w:{b' .. hash .. '}'
local token = call('GET', key)
if not token or now >= u64(token, 3) then return {0, false} end
if byte(token, 2) == 0 then
  token = '\1\2' .. sub(token, 3)
  put(key, token, u64(token, 3))
end
return {0, hash .. token}

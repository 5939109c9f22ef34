-- Reads values of one moment. KEYS: the generation, then what is read.
local v = call('MGET', unpack(KEYS))
local no = begin(v[1])
if no then return no end
v[1] = now
return {0, v}

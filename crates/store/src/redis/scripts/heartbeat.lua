-- Notes that a broker lives. KEYS: the generation. ARGV: its id, for how long and its keys' version (8 each).
local no = begin(call('GET', KEYS[1]))
if no then return no end
local length, version = unp('>I8I8', ARGV[3])
call('HSET', 'mf:brokers', ARGV[2], pack('>I8I8', now + length, version))
return {0}

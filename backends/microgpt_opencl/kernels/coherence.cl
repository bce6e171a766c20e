// Writes a number that depends on what the host wrote: see `Device._coherent`.
kernel void next_number(global int *values, ulong values_start)
{
    values[values_start + 1] = values[values_start] + 1;
}

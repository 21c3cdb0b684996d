# What a compiled call costs beyond MLX's own work, plain and with `fuse: true`, beside the same in MLX's Python:
#
#     mix run bench/fuse.exs PACKAGES
#
# PACKAGES is a folder with Python's package mlx. Both take turns, and the least of many calls counts, which other work on the
# machine disturbs least.
defmodule Bench.Fuse do
  import Nx.Defn

  @operations 200
  @size 64
  @rounds 50
  @samples 1000
  @turns 5

  def chain(x),
    do: Enum.reduce(1..div(@operations, 2), x, fn _, a -> Nx.sin(Nx.add(a, x)) end)

  defn loop(x) do
    {_i, root, _x} =
      while {i = 0, root = x, x}, i < @rounds do
        {i + 1, (root + x / root) * 0.5, x}
      end

    root
  end

  def run([packages]) do
    turns = for _ <- 1..@turns, do: {emily(), python(packages)}
    {ours, theirs} = Enum.unzip(turns)

    rows =
      for name <- ["chain plain", "chain fused", "loop plain", "loop fused"] do
        [emily, mlx] = for turns <- [ours, theirs], do: least(turns, name)
        %{name: name, emily_us: emily, mlx_us: mlx, ratio: Float.round(emily / mlx, 3)}
      end

    IO.puts(JSON.encode!(rows))
  end

  defp least(turns, name), do: turns |> Enum.map(& &1[name]["least"]) |> Enum.min()

  defp emily do
    x = Nx.broadcast(Nx.tensor(1.0, backend: Emily.Backend), {@size})

    for {kind, fun} <- [{"chain", &chain/1}, {"loop", &loop/1}],
        {how, fuse} <- [{"plain", false}, {"fused", true}],
        into: %{} do
      compiled = Nx.Defn.compile(fun, [x], compiler: Emily.Compiler, fuse: fuse)
      {"#{kind} #{how}", measure(fn -> compiled.(x) |> Emily.Backend.eval() end)}
    end
  end

  defp measure(fun) do
    times = for _ <- 1..@samples, do: time(fun)
    times = times |> Enum.drop(div(@samples, 10)) |> Enum.sort()
    %{"least" => hd(times), "median" => Enum.at(times, div(length(times), 2))}
  end

  defp time(fun) do
    start = System.monotonic_time(:nanosecond)
    fun.()
    (System.monotonic_time(:nanosecond) - start) / 1000
  end

  defp python(packages) do
    arguments = Enum.map([@operations, @size, @rounds, @samples], &Integer.to_string/1)
    program = Path.join(__DIR__, "fuse.py")
    {output, 0} = System.cmd("python3", [program | arguments], env: [{"PYTHONPATH", packages}])
    JSON.decode!(output)
  end
end

Bench.Fuse.run(System.argv())

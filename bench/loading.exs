# How long it takes to load a gigabyte from a safetensors file, beside MLX's Python:
#
#     mix run bench/loading.exs PACKAGES
#
# PACKAGES is a folder with Python's package mlx. The file is as a small language model's, and in the page cache. Both load it
# in turns, and the middle of their times counts. Memory of the BEAM is what it has more of while the tensors are there.
defmodule Bench.Loading do
  @turns 9
  @layers 24
  # Query, key, value and output, the feed-forward part, and the norms.
  @layer [
    {2048, 1024},
    {1024, 1024},
    {1024, 1024},
    {1024, 2048},
    {3072, 1024},
    {3072, 1024},
    {1024, 3072},
    {1024},
    {1024},
    {128},
    {128}
  ]
  @ends [{64_000, 1024}, {60_000, 1024}]

  def run([packages]) do
    path = Path.join(System.tmp_dir!(), "emily-#{System.pid()}-loading.safetensors")

    try do
      Emily.Safetensors.save(tensors(), path)
      _warm = {emily(path), python(packages, path)}
      turns = for _ <- 1..@turns, do: {emily(path), python(packages, path)}
      {ours, theirs} = Enum.unzip(turns)
      {times, memory} = Enum.unzip(ours)

      IO.puts(
        JSON.encode!(%{
          bytes: File.stat!(path).size,
          emily_us: middle(times),
          mlx_us: middle(theirs),
          beam_bytes: Enum.max(memory)
        })
      )
    after
      File.rm(path)
    end
  end

  defp tensors do
    shapes = @ends ++ List.flatten(List.duplicate(@layer, @layers))

    for {shape, number} <- Enum.with_index(shapes), into: %{} do
      {"#{number}", Nx.broadcast(Nx.tensor(number, type: :bf16, backend: Emily.Backend), shape)}
    end
  end

  # In a process of its own, whose tensors go with it.
  defp emily(path) do
    task =
      Task.async(fn ->
        before = :erlang.memory(:total)
        start = System.monotonic_time(:nanosecond)
        tensors = Emily.Safetensors.load(path)
        microseconds = (System.monotonic_time(:nanosecond) - start) / 1000
        grown = :erlang.memory(:total) - before
        Enum.each(tensors, fn {_name, tensor} -> Nx.backend_deallocate(tensor) end)
        {microseconds, grown}
      end)

    Task.await(task, :infinity)
  end

  defp python(packages, path) do
    program = Path.join(__DIR__, "loading.py")
    {output, 0} = System.cmd("python3", [program, path], env: [{"PYTHONPATH", packages}])
    JSON.decode!(output)
  end

  defp middle(times), do: times |> Enum.sort() |> Enum.at(div(length(times), 2))
end

Bench.Loading.run(System.argv())

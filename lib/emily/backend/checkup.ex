defmodule Emily.Backend.Checkup do
  @moduledoc """
  Computes one operation of each family with `Emily.Backend`, for the doctor: each must give what it
  should, without a fallback and without a tensor of another backend.
  """

  alias Emily.Backend
  alias Nx.Tensor, as: T

  @typedoc "A name, what to compute, and its elements."
  @type operation :: {String.t(), (-> T.t()), [number()]}

  @doc """
  The names of the operations, and what went wrong with which.
  """
  @spec run([operation()]) :: {:ok, [String.t()], [{String.t(), String.t()}]}
  def run(operations \\ operations()) do
    before = Nx.default_backend(Backend)

    try do
      problems =
        for {name, fun, expected} <- operations,
            problem = problem(fun, expected),
            do: {name, problem}

      {:ok, for({name, _fun, _expected} <- operations, do: name), problems}
    after
      Nx.default_backend(before)
    end
  end

  defp operations do
    square = fn -> Nx.tensor([[2.0, 1.0], [1.0, 3.0]]) end

    [
      {"arithmetic", fn -> Nx.add(Nx.iota({3}), 1) end, [1, 2, 3]},
      {"reductions", fn -> Nx.sum(Nx.iota({2, 3}), axes: [1]) end, [3, 12]},
      {"functions", fn -> Nx.reduce(Nx.iota({4}), 1, &Nx.add/2) end, [7]},
      {"products", fn -> Nx.dot(Nx.iota({2, 2}), Nx.iota({2, 2})) end, [2, 3, 6, 11]},
      {"convolution", fn -> Nx.conv(Nx.iota({1, 1, 3}), Nx.tensor([[[1, 1]]])) end, [1.0, 3.0]},
      {"windows", fn -> Nx.window_max(Nx.tensor([1, 3, 2]), {2}) end, [3, 3]},
      {"order", fn -> Nx.argsort(Nx.tensor([3, 1, 2])) end, [1, 2, 0]},
      {"indices", fn -> Nx.take(Nx.tensor([5, 6, 7]), Nx.tensor([2, 0])) end, [7, 5]},
      {"running totals", fn -> Nx.cumulative_sum(Nx.tensor([1, 2, 3])) end, [1, 3, 6]},
      {"linear algebra", fn -> Nx.LinAlg.solve(square.(), Nx.tensor([3.0, 4.0])) end, [1.0, 1.0]},
      {"Fourier transforms", fn -> Nx.real(Nx.fft(Nx.tensor([1.0, 1.0]))) end, [2.0, 0.0]},
      {"random numbers", fn -> Nx.Random.randint_split(Nx.Random.key(1), 7, 8, shape: {2}) end,
       [7, 7]}
    ]
  end

  defp problem(fun, expected) do
    case watched(fun) do
      {_result, [_ | _] = left} -> "#{Enum.join(left, ", ")} left Emily"
      {%T{data: %Backend{}} = result, []} -> difference(Nx.to_flat_list(result), expected)
      {%T{data: %other{}}, []} -> "its result is a tensor of #{inspect(other)}"
    end
  rescue
    error -> Exception.message(error)
  end

  defp difference(actual, expected) do
    close? = fn {a, b} -> abs(a - b) < 1.0e-4 end

    if length(actual) != length(expected) or not Enum.all?(Enum.zip(actual, expected), close?),
      do: "expected #{inspect(expected)}, got: #{inspect(actual)}"
  end

  # A function's result, and the names of the operations that fell back while it ran.
  defp watched(fun) do
    watch = {__MODULE__, make_ref()}
    event = [:emily, :fallback, :start]
    :ok = :telemetry.attach(watch, event, &__MODULE__.note/4, {self(), watch})

    try do
      result = fun.()
      {result, noted(watch)}
    after
      :telemetry.detach(watch)
    end
  end

  @doc false
  # Other processes may fall back meanwhile, and these handlers run in the process that does.
  def note(_event, _measurements, %{operation: name}, {asker, watch}) do
    if self() == asker, do: send(asker, {watch, name})
  end

  defp noted(watch) do
    receive do
      {^watch, name} -> [name | noted(watch)]
    after
      0 -> []
    end
  end
end

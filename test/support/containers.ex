# Here, because protocols are consolidated before tests are compiled.
if Code.ensure_loaded?(Nx) do
  defmodule Emily.Test.Containers do
    @moduledoc "Structs that Nx takes as containers of tensors."

    defmodule Pair do
      @moduledoc "Two containers and a name."
      @derive {Nx.Container, containers: [:left, :right]}
      defstruct [:left, :right, :name]
    end

    defmodule Column do
      @moduledoc "A tensor that is given when it is asked for."
      defstruct [:tensor]

      defimpl Nx.LazyContainer do
        def traverse(%{tensor: tensor}, acc, fun),
          do: fun.(Nx.to_template(tensor), fn -> tensor end, acc)
      end
    end
  end
end

defmodule Emily.Test.Xtask do
  @moduledoc """
  The Rust installer, where tests hold it against the Elixir one: programs of `xtask/examples/`.

  `cargo xtask test` has built them with its Rust tests; elsewhere Cargo does when they are asked for.
  """

  @doc "Why there is no such program here, or nil."
  def problem do
    cond do
      System.find_executable("cargo") == nil -> "needs Cargo"
      not File.regular?("xtask/Cargo.toml") -> "needs a checkout"
      true -> nil
    end
  end

  @doc "The path of a program of `xtask/examples/`, after Cargo has seen to it."
  def example(name) do
    arguments = ~w(build --quiet --package xtask --example #{name} --message-format=json)
    {output, status} = System.cmd("cargo", arguments)
    if status != 0, do: raise("xtask's example #{name} does not build:\n#{output}")

    output
    |> String.split("\n", trim: true)
    |> Enum.map(&JSON.decode!/1)
    |> Enum.find_value(fn message ->
      if message["target"]["name"] == name, do: message["executable"]
    end)
  end
end

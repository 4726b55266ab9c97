"""Where weights are in the AXI registers: the same places as in the hardware's own memories."""

from __future__ import annotations

import random

import numpy as np
import pytest

from apical.hw.accelerator import Accelerator
from apical.hw.conv_array import ConvArray
from apical.hw.register_map import AxiOptions, sites
from apical.sim.random_networks import random_network, random_options
from apical.sw.axi_weights import Site


@pytest.mark.parametrize("seed", range(25))
def test_an_image_is_what_the_memories_hold(seed: int) -> None:
    """Row and fields of each site against the banks' initial words; flat, maps, groups, classes and copies."""
    rng = random.Random(seed)
    network = random_network(rng)
    options = random_options(rng, network)
    accelerator = Accelerator(network, options)
    for site in sites(network, options, AxiOptions(writable=True)):
        assert isinstance(site, Site)
        q = next(q for q in network.projections if q.name == site.projection)
        array = next(a for a in accelerator.units[q.target].arrays if a.projection is q)
        image = site.image(q.weights)
        assert image.shape == (site.rows, site.chunks)
        assert np.array_equal(site.weights(image), q.weights)
        n, mask, per = array.lanes.neuron, (1 << q.weight_bits) - 1, 32 // site.field_bits
        shifts = [j % per * site.field_bits for j in range(site.lanes)]
        for g in range(array.groups):
            copies = 1 if isinstance(array, ConvArray) else array.layout.lanes
            classes = 1 if isinstance(array, ConvArray) else array.layout.classes
            for bank in range(copies):
                words = array.memory_words(g) if isinstance(array, ConvArray) else array.memory_words(g, bank)
                for at, word in enumerate(words):
                    row = image[at * classes + bank % classes]
                    lanes = range(g * n, (g + 1) * n)
                    expected = [int(row[j // per]) >> shifts[j] & mask for j in lanes]
                    assert [word >> i * q.weight_bits & mask for i in range(n)] == expected, (site, at, g, bank)


def test_other_weights_than_the_shape_and_bits_are_refused() -> None:
    site = Site(0, "p", "dense", (3, 4), 8, 2)
    with pytest.raises(ValueError, match=r"^projection 'p': expected weights \(3, 4\) of -128 to 127, got \(4, 3\)"):
        site.image(np.zeros((4, 3), np.int64))
    with pytest.raises(ValueError, match=r"got .* 0 to 128$"):
        site.image(np.array([[0, 0, 0, 128]] * 3))

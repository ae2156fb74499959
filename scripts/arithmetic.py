"""Word problems and sums with their working: `general-arithmetic.jsonl` of engine/bundled is made of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

NAMES = (
    "Ada",
    "Bela",
    "Chidi",
    "Dunja",
    "Emre",
    "Farah",
    "Goran",
    "Hana",
    "Ines",
    "Jonas",
    "Kofi",
    "Lin",
    "Mira",
    "Nuria",
    "Olga",
    "Pavel",
    "Qi",
    "Rosa",
    "Sami",
    "Tove",
    "Uma",
    "Viktor",
    "Wanda",
    "Yara",
    "Zeno",
)
THINGS = (
    "apples",
    "books",
    "buttons",
    "candles",
    "cards",
    "coins",
    "cups",
    "eggs",
    "marbles",
    "nails",
    "pens",
    "postcards",
    "seeds",
    "shells",
    "stamps",
    "tickets",
    "tiles",
)
PROBLEMS_PER_KIND = 4


def arithmetic() -> list[dict[str, str]]:
    """Word problems and sums of our own, each with its working; the kind of problem is the document."""
    rows = []
    for kind in KINDS:
        chance = random.Random(f"arithmetic {kind.__name__}")
        texts = {kind(chance): None for _ in range(PROBLEMS_PER_KIND)}
        rows += [{"text": text, "document": kind.__name__} for text in texts]
    return rows


def addition(c: random.Random) -> str:
    a, b, name, thing = c.randint(12, 480), c.randint(12, 480), c.choice(NAMES), c.choice(THINGS)
    return (
        f"{name} has {a} {thing} and is given {b} more. How many {thing} does {name} have now? "
        f"Add the two numbers: {a} + {b} = {a + b}. {name} has {a + b} {thing}."
    )


def subtraction(c: random.Random) -> str:
    b, rest, name, thing = c.randint(12, 300), c.randint(5, 300), c.choice(NAMES), c.choice(THINGS)
    return (
        f"Of {b + rest} {thing}, {name} sells {b}. How many are left? "
        f"{b + rest} - {b} = {rest}, so {rest} {thing} are left."
    )


def multiplication(c: random.Random) -> str:
    a, b, thing = c.randint(3, 19), c.randint(6, 48), c.choice(THINGS)
    return (
        f"A box holds {b} {thing}. How many {thing} are in {a} boxes? "
        f"Each box holds the same number, so multiply: {a} × {b} = {a * b}. There are {a * b} {thing}."
    )


def division(c: random.Random) -> str:
    a, b, thing = c.randint(3, 12), c.randint(4, 40), c.choice(THINGS)
    return (
        f"{a * b} {thing} are shared equally among {a} children. How many does each child get? "
        f"Divide: {a * b} ÷ {a} = {b}. Each child gets {b} {thing}."
    )


def remainder(c: random.Random) -> str:
    size, boxes, thing = c.randint(5, 12), c.randint(6, 30), c.choice(THINGS)
    left = c.randint(1, size - 1)
    total = size * boxes + left
    return (
        f"{total} {thing} are packed into bags of {size}. How many bags are full, and how many {thing} "
        f"are left over? "
        f"{size} × {boxes} = {size * boxes}, and {total} - {size * boxes} = {left}. "
        f"So {boxes} bags are full and {left} {thing} are left over."
    )


def two_steps(c: random.Random) -> str:
    a, b, price, name = c.randint(2, 9), c.randint(2, 9), c.randint(2, 15), c.choice(NAMES)
    return (
        f"{name} buys {a} tickets in the morning and {b} in the afternoon. A ticket costs {price} "
        f"euros. What does "
        f"{name} pay in all? First the tickets: {a} + {b} = {a + b}. Then the price: {a + b} × {price} = "
        f"{(a + b) * price}. {name} pays {(a + b) * price} euros."
    )


def change(c: random.Random) -> str:
    price, count, name = c.randint(2, 9), c.randint(2, 6), c.choice(NAMES)
    paid = next(note for note in (10, 20, 50, 100) if note >= price * count)
    return (
        f"{name} buys {count} loaves of bread at {price} euros each and pays with a note of {paid} "
        f"euros. How much change "
        f"does {name} get? The bread costs {count} × {price} = {count * price} euros. The change is "
        f"{paid} - "
        f"{count * price} = {paid - count * price} euros."
    )


def percent(c: random.Random) -> str:
    share, hundred = c.choice((5, 10, 15, 20, 25, 30, 40)), c.randint(2, 18)
    whole = hundred * 100
    return (
        f"What is {share}% of {whole}? One per cent of {whole} is {whole} ÷ 100 = {hundred}. "
        f"{share} times that is {share} × {hundred} = {share * hundred}. The answer is {share * hundred}."
    )


def discount(c: random.Random) -> str:
    off, tens = c.choice((10, 20, 30, 40)), c.randint(3, 25)
    price, saved = tens * 10, tens * off // 10
    return (
        f"A coat costs {price} euros and is sold with a discount of {off}%. What is the new price? "
        f"The discount is {price} × {off} ÷ 100 = {saved} euros. The new price is {price} - {saved} = "
        f"{price - saved} euros."
    )


def average(c: random.Random) -> str:
    mean, name = c.randint(8, 40), c.choice(NAMES)
    spread, other = c.randint(1, 6), c.randint(1, 6)
    values = [mean - spread, mean + other, mean + spread, mean - other]
    return (
        f"On four days {name} walks {values[0]}, {values[1]}, {values[2]} and {values[3]} minutes. What "
        f"is the average? "
        f"The sum is {' + '.join(map(str, values))} = {sum(values)}. Divided by 4 that is {mean}. "
        f"On average, {name} walks {mean} minutes."
    )


def speed(c: random.Random) -> str:
    rate, hours = c.choice((40, 50, 60, 70, 80, 90, 110)), c.randint(2, 7)
    return (
        f"A train travels at {rate} kilometres an hour for {hours} hours. How far does it get? "
        f"Distance is speed times time: {rate} × {hours} = {rate * hours}. It travels {rate * hours} "
        f"kilometres."
    )


def travel_time(c: random.Random) -> str:
    rate, hours, name = c.choice((12, 15, 18, 20)), c.randint(2, 6), c.choice(NAMES)
    return (
        f"{name} rides a bicycle at {rate} kilometres an hour. How long does a way of {rate * hours} "
        f"kilometres take? "
        f"Time is distance divided by speed: {rate * hours} ÷ {rate} = {hours}. It takes {hours} hours."
    )


def area(c: random.Random) -> str:
    a, b = c.randint(3, 24), c.randint(3, 24)
    return (
        f"A garden is {a} metres long and {b} metres wide. What are its area and the length of the "
        f"fence around it? "
        f"The area is {a} × {b} = {a * b} square metres. The fence is 2 × ({a} + {b}) = {2 * (a + b)} "
        f"metres long."
    )


def volume(c: random.Random) -> str:
    a, b, h = c.randint(2, 9), c.randint(2, 9), c.randint(2, 9)
    return (
        f"A tank is {a} metres long, {b} metres wide and {h} metres deep. How much water does it hold? "
        f"{a} × {b} × {h} = {a * b * h}, so it holds {a * b * h} cubic metres."
    )


def clock(c: random.Random) -> str:
    hour, minute, take = (
        c.randint(6, 18),
        c.choice((5, 10, 20, 25, 35, 40, 50)),
        c.choice((70, 85, 95, 110, 130)),
    )
    end = hour * 60 + minute + take
    return (
        f"A film starts at {hour}:{minute:02d} and lasts {take} minutes. When does it end? {take} "
        f"minutes are "
        f"{take // 60} h {take % 60} min. The film ends at {end // 60}:{end % 60:02d}."
    )


def ages(c: random.Random) -> str:
    young, gap, one, two = c.randint(4, 14), c.randint(2, 12), *c.sample(NAMES, 2)
    years = c.randint(2, 10)
    return (
        f"{one} is {young} years old. {two} is {gap} years older. How old will {two} be in {years} "
        f"years? Now {two} is "
        f"{young} + {gap} = {young + gap}. In {years} years {two} will be {young + gap} + {years} = "
        f"{young + gap + years}."
    )


def fraction(c: random.Random) -> str:
    part, whole, each = *sorted(c.sample(range(1, 8), 2)), c.randint(3, 20)
    return (
        f"How much is {part}/{whole} of {whole * each}? First divide by {whole}: {whole * each} ÷ "
        f"{whole} = {each}. "
        f"Then multiply by {part}: {each} × {part} = {each * part}. The answer is {each * part}."
    )


def adding_fractions(c: random.Random) -> str:
    low = c.choice((5, 7, 9, 11, 13))
    a = c.randint(1, low - 2)
    b = c.randint(1, low - 1 - a)
    return (
        f"Add {a}/{low} and {b}/{low}. The denominators are equal, so only the numerators are added: "
        f"{a} + {b} = {a + b}. "
        f"The sum is {a + b}/{low}."
    )


def ratio(c: random.Random) -> str:
    (a, b), each = c.sample(range(2, 8), 2), c.randint(3, 15)
    return (
        f"Paint is mixed from {a} parts of blue and {b} parts of white. There are {(a + b) * each} "
        f"litres. How much of it is "
        f"blue? There are {a} + {b} = {a + b} parts. One part is {(a + b) * each} ÷ {a + b} = {each} "
        f"litres. "
        f"Blue are {a} × {each} = {a * each} litres."
    )


def proportion(c: random.Random) -> str:
    count, price, wanted = c.randint(3, 8), c.randint(2, 9), c.randint(9, 15)
    thing = c.choice(THINGS)
    return (
        f"{count} {thing} cost {count * price} euros. What do {wanted} of them cost? One costs "
        f"{count * price} ÷ {count} = "
        f"{price} euros. So {wanted} cost {wanted} × {price} = {wanted * price} euros."
    )


def equation(c: random.Random) -> str:
    a, x, b = c.randint(2, 12), c.randint(2, 15), c.randint(1, 30)
    return (
        f"Solve {a}x + {b} = {a * x + b}. Subtract {b} from both sides: {a}x = {a * x}. Divide both "
        f"sides by {a}: x = {x}."
    )


def two_sided_equation(c: random.Random) -> str:
    a, x, extra, b = c.randint(2, 6), c.randint(2, 12), c.randint(1, 5), c.randint(1, 20)
    d = extra * x + b
    return (
        f"Solve {a + extra}x + {b} = {a}x + {d}. Subtract {a}x from both sides: {extra}x + {b} = {d}. "
        f"Subtract {b}: "
        f"{extra}x = {d - b}. Divide by {extra}: x = {x}."
    )


def unknown_number(c: random.Random) -> str:
    x, factor, plus = c.randint(3, 20), c.randint(2, 9), c.randint(2, 30)
    return (
        f"A number is multiplied by {factor}, then {plus} is added, and the result is "
        f"{x * factor + plus}. What is the number? "
        f"Go backwards: {x * factor + plus} - {plus} = {x * factor}, and {x * factor} ÷ {factor} = {x}. "
        f"The number is {x}."
    )


def sequence(c: random.Random) -> str:
    start, step = c.randint(2, 30), c.randint(3, 15)
    shown = [start + step * i for i in range(4)]
    return (
        f"How does the sequence {', '.join(map(str, shown))} go on? The difference between neighbours "
        f"is {step}. The next "
        f"number is {shown[-1]} + {step} = {shown[-1] + step}, and the one after it is "
        f"{shown[-1] + 2 * step}."
    )


def powers(c: random.Random) -> str:
    base, exponent = c.randint(2, 9), c.randint(3, 4)
    steps = [base**i for i in range(1, exponent + 1)]
    working = ", ".join(f"{low} × {base} = {high}" for low, high in pairwise(steps))
    return (
        f"What is {base} to the power of {exponent}? Multiply step by step: {working}. The result is "
        f"{steps[-1]}."
    )


def common_divisor(c: random.Random) -> str:
    g, (a, b) = c.randint(2, 15), c.choice(((2, 3), (3, 4), (3, 5), (4, 5), (5, 7), (2, 7), (5, 8)))
    big, small = g * b, g * a
    lines, x, y = [], big, small
    while y:
        lines.append(f"{x} = {x // y} × {y} + {x % y}")
        x, y = y, x % y
    return (
        f"Find the greatest common divisor of {small} and {big}. Divide with remainder until nothing is "
        f"left: "
        f"{', '.join(lines)}. The last divisor is {x}, so the answer is {x}."
    )


def factors(c: random.Random) -> str:
    number = c.randint(40, 400)
    rest, found, divisor = number, list[int](), 2
    while rest > 1:
        while rest % divisor == 0:
            found.append(divisor)
            rest //= divisor
        divisor += 1
    if len(found) == 1:
        return f"Write {number} as a product of primes. No smaller number divides it, so {number} is a prime itself."
    return f"Write {number} as a product of primes. {number} = {' × '.join(map(str, found))}."


def chance(c: random.Random) -> str:
    red, blue = c.randint(2, 9), c.randint(2, 9)
    return (
        f"A bag holds {red} red and {blue} blue balls. One ball is drawn without looking. What is the "
        f"chance that it is red? "
        f"There are {red} + {blue} = {red + blue} balls, and {red} of them are red. The chance is "
        f"{red}/{red + blue}."
    )


def combinations(c: random.Random) -> str:
    a, b, d = c.randint(2, 6), c.randint(2, 6), c.randint(2, 4)
    return (
        f"A menu offers {a} starters, {b} main courses and {d} desserts. How many different meals can "
        f"be ordered? Every "
        f"starter goes with every main course and every dessert: {a} × {b} × {d} = {a * b * d} meals."
    )


def units(c: random.Random) -> str:
    km, m = c.randint(1, 9), c.choice((50, 120, 250, 400, 750))
    return (
        f"How many metres are {km} kilometres and {m} metres? A kilometre has 1000 metres, so {km} "
        f"kilometres are "
        f"{km * 1000} metres. Together that is {km * 1000} + {m} = {km * 1000 + m} metres."
    )


def seconds(c: random.Random) -> str:
    hours, minutes = c.randint(1, 5), c.randint(2, 58)
    return (
        f"How many seconds are {hours} hours and {minutes} minutes? {hours} × 60 + {minutes} = "
        f"{hours * 60 + minutes} minutes. "
        f"{hours * 60 + minutes} × 60 = {(hours * 60 + minutes) * 60} seconds."
    )


def long_addition(c: random.Random) -> str:
    numbers = [c.randint(100, 999) for _ in range(3)]
    first = numbers[0] + numbers[1]
    return (
        f"Compute {numbers[0]} + {numbers[1]} + {numbers[2]}. First {numbers[0]} + {numbers[1]} = "
        f"{first}, then {first} + "
        f"{numbers[2]} = {first + numbers[2]}."
    )


def long_multiplication(c: random.Random) -> str:
    a, b = c.randint(21, 98), c.randint(12, 49)
    tens, ones = a * (b // 10 * 10), a * (b % 10)
    return (
        f"Compute {a} × {b}. Split {b} into {b // 10 * 10} and {b % 10}: {a} × {b // 10 * 10} = {tens} "
        f"and {a} × {b % 10} = {ones}. "
        f"The sum is {tens} + {ones} = {a * b}."
    )


def brackets(c: random.Random) -> str:
    a, b, d, e = c.randint(2, 12), c.randint(2, 12), c.randint(2, 9), c.randint(1, 20)
    return (
        f"Compute ({a} + {b}) × {d} - {e}. The brackets come first: {a} + {b} = {a + b}. Then {a + b} × "
        f"{d} = {(a + b) * d}, "
        f"and {(a + b) * d} - {e} = {(a + b) * d - e}."
    )


def rounding(c: random.Random) -> str:
    number = c.randint(1001, 9899)
    hundred = (number + 50) // 100 * 100
    direction = "up" if hundred > number else "down"
    return (
        f"Round {number} to the nearest hundred. The last two digits are {number % 100:02d}, so it is "
        f"rounded {direction} to "
        f"{hundred}. To the nearest thousand it is {(number + 500) // 1000 * 1000}."
    )


def comparing(c: random.Random) -> str:
    name, other = c.sample(NAMES, 2)
    a, times, less = c.randint(5, 30), c.randint(2, 5), c.randint(1, 20)
    return (
        f"{name} reads {a * times + less} pages. {other} reads {a} pages a day for {times} days. Who "
        f"reads more, and by how much? "
        f"{other} reads {a} × {times} = {a * times} pages. {name} reads {a * times + less} - "
        f"{a * times} = {less} more."
    )


def interest(c: random.Random) -> str:
    sum_, rate, years = c.randint(2, 30) * 100, c.randint(2, 6), c.randint(2, 5)
    yearly = sum_ * rate // 100
    return (
        f"{sum_} euros are lent at {rate}% simple interest a year. How much interest is paid in {years} "
        f"years? In one year it is "
        f"{sum_} × {rate} ÷ 100 = {yearly} euros, in {years} years {years} × {yearly} = "
        f"{years * yearly} euros."
    )


def working_together(c: random.Random) -> str:
    a, b, hours = c.randint(3, 15), c.randint(3, 15), c.randint(2, 8)
    return (
        f"One pump moves {a} litres a minute and another {b}. How much do both move in {hours * 10} "
        f"minutes? Together they move "
        f"{a} + {b} = {a + b} litres a minute, so {hours * 10} × {a + b} = {hours * 10 * (a + b)} litres."
    )


KINDS: tuple[Callable[[random.Random], str], ...] = (
    addition, subtraction, multiplication, division, remainder, two_steps, change, percent, discount, average, speed,
    travel_time, area, volume, clock, ages, fraction, adding_fractions, ratio, proportion, equation, two_sided_equation,
    unknown_number, sequence, powers, common_divisor, factors, chance, combinations, units, seconds, long_addition,
    long_multiplication, brackets, rounding, comparing, interest, working_together,
)  # fmt: skip
